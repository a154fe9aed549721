//! What is asked of the agent in a guest. No agent here reads it; it is kept and told, as clients expect.

use calotype_api::error::ApiError;
use calotype_api::instances::{
    InstanceAgentConfig, InstanceAgentPluginConfigDetails, LaunchInstanceAgentConfigDetails,
    UpdateInstanceAgentConfigDetails,
};

/// Most plugins that can be configured.
const PLUGINS_MAX: usize = 64;

/// The configuration of a new instance.
pub(super) fn chosen(
    asked: Option<LaunchInstanceAgentConfigDetails>,
) -> Result<InstanceAgentConfig, ApiError> {
    let asked = asked.unwrap_or_default();
    check(asked.plugins_config.as_deref())?;
    Ok(InstanceAgentConfig {
        are_all_plugins_disabled: Some(asked.are_all_plugins_disabled.unwrap_or(false)),
        is_management_disabled: Some(asked.is_management_disabled.unwrap_or(false)),
        is_monitoring_disabled: Some(asked.is_monitoring_disabled.unwrap_or(false)),
        plugins_config: asked.plugins_config,
    })
}

/// The configuration with what is asked for instead; what is absent stays.
pub(super) fn change(
    has: &mut InstanceAgentConfig,
    asked: UpdateInstanceAgentConfigDetails,
) -> Result<(), ApiError> {
    check(asked.plugins_config.as_deref())?;
    has.are_all_plugins_disabled = asked.are_all_plugins_disabled.or(has.are_all_plugins_disabled);
    has.is_management_disabled = asked.is_management_disabled.or(has.is_management_disabled);
    has.is_monitoring_disabled = asked.is_monitoring_disabled.or(has.is_monitoring_disabled);
    has.plugins_config = asked.plugins_config.or(has.plugins_config.take());
    Ok(())
}

fn check(plugins: Option<&[InstanceAgentPluginConfigDetails]>) -> Result<(), ApiError> {
    let count = plugins.map_or(0, <[_]>::len);
    if count <= PLUGINS_MAX {
        return Ok(());
    }
    let limit = format!("has {count} plugins; the limit is {PLUGINS_MAX}");
    Err(ApiError::invalid_parameter("agentConfig.pluginsConfig", limit))
}

#[cfg(test)]
mod tests {
    use calotype_api::instances::PluginState;

    use super::*;

    #[test]
    fn plugins_are_counted() {
        let plugin = InstanceAgentPluginConfigDetails {
            desired_state: PluginState::Enabled,
            name: "Bastion".parse().unwrap(),
        };
        let asked = |count| LaunchInstanceAgentConfigDetails {
            plugins_config: Some(vec![plugin.clone(); count]),
            ..Default::default()
        };
        assert!(chosen(Some(asked(PLUGINS_MAX))).is_ok());
        let error = chosen(Some(asked(PLUGINS_MAX + 1))).unwrap_err();
        assert!(error.message.contains("pluginsConfig"), "{}", error.message);
    }
}
