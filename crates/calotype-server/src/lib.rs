//! The region: HTTP wire, rules, workflows and catalog.
