//! Sample values of published types: every attribute present, each with a value of its type.

use serde_json::{Map, Value, json};

use crate::API;

const OCID: &str = "ocid1.sample.oc99.home-1.aaaa";
const TIME: &str = "2016-08-25T21:10:29.600Z";

/// The published description of a model.
pub(crate) fn model(service: &str, name: &str) -> &'static Value {
    let model = &API["models"][service][name];
    assert!(model.is_object(), "there is no model {name} in {service}");
    model
}

/// The attributes of a model, and what is said of each.
pub(crate) fn attributes(service: &str, name: &str) -> &'static Map<String, Value> {
    model(service, name)["attributes"].as_object().expect("attributes are an object")
}

/// A value of a model with every attribute.
pub(crate) fn object(service: &str, name: &str) -> Map<String, Value> {
    let parts = attributes(service, name);
    let part = |(name, about): (&String, &Value)| (name.clone(), attribute(service, name, about));
    let mut whole: Map<_, _> = parts.iter().map(part).collect();
    let discriminator = &model(service, name)["discriminator"];
    if let Some((word, subtype)) =
        discriminator["subtypes"].as_object().and_then(|subtypes| subtypes.iter().next_back())
    {
        let subtype = subtype.as_str().expect("a subtype is a model");
        whole.extend(object(service, subtype));
        let attribute = discriminator["attribute"].as_str().expect("a discriminator is a name");
        whole.insert(attribute.to_owned(), json!(word));
    }
    whole
}

/// A value of an attribute.
pub(crate) fn attribute(service: &str, name: &str, about: &Value) -> Value {
    match about["enum"].as_array() {
        Some(words) if about["type"] == "str" => words[0].clone(),
        Some(words) => json!([words[0]]),
        None => typed(service, name, about["type"].as_str().expect("an attribute has a type")),
    }
}

fn typed(service: &str, name: &str, kind: &str) -> Value {
    if let Some(inner) = kind.strip_prefix("list[").and_then(|rest| rest.strip_suffix(']')) {
        return json!([typed(service, name.trim_end_matches('s'), inner)]);
    }
    if let Some(model) = kind.strip_prefix("dict(str, ").and_then(|rest| rest.strip_suffix(')'))
        && API["models"][service][model].is_object()
    {
        return json!({"key": object(service, model)});
    }
    match kind {
        "str" => json!(text(name)),
        "int" => json!(1),
        "float" => json!(1.5),
        "bool" => json!(true),
        "datetime" => json!(TIME),
        "object" => json!("anything"),
        "dict(str, str)" => json!({"key": "value"}),
        "dict(str, object)" => json!({"key": {"deeper": 1}}),
        "dict(str, dict(str, object))" => json!({"namespace": {"key": "value"}}),
        model => Value::Object(object(service, model)),
    }
}

fn text(name: &str) -> &'static str {
    match name {
        "id" | "identifier" => OCID,
        _ if name.ends_with("Id") => OCID,
        "privateIp" | "publicIp" | "ipAddress" | "virtualRouterIp" => "10.0.0.2",
        _ => "text",
    }
}
