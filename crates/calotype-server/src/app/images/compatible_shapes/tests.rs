//! What lists of compatible shapes promise.

use serde_json::json;

use super::*;

fn bounded(
    shape: &str,
    ocpus: (Option<u64>, Option<u64>),
    memory: (Option<u64>, Option<u64>),
) -> CompatibleShape {
    CompatibleShape {
        shape: shape.into(),
        ocpu_constraints: Some(ImageOcpuConstraints { min: ocpus.0, max: ocpus.1 }),
        memory_constraints: Some(ImageMemoryConstraints {
            min_in_gbs: memory.0,
            max_in_gbs: memory.1,
        }),
    }
}

#[test]
fn lists_of_names_are_still_read() {
    let read: Vec<CompatibleShape> =
        serde_json::from_value(json!(["VM.Standard2.1", "VM.Standard.E4.Flex"])).unwrap();
    assert_eq!(read[0], CompatibleShape::any_size("VM.Standard2.1"));
    let shape = bounded("VM.Standard.E4.Flex", (Some(1), None), (None, Some(8)));
    let again = serde_json::from_value(serde_json::to_value(&shape).unwrap()).unwrap();
    assert_eq!(shape, again);
}

#[test]
fn only_flexible_shapes_have_bounds_and_these_lie_in_order_within_their_limits() {
    let flexible = "VM.Standard.E4.Flex";
    let refused = |shape: &CompatibleShape| {
        let offer = shapes::find(&shape.shape).unwrap();
        check_constraints(offer, shape).map_err(|error| error.message)
    };
    let (all, free) = ((Some(1), Some(64)), (None, None));
    assert_eq!(refused(&bounded(flexible, all, (Some(1), Some(1024)))), Ok(()));
    assert_eq!(refused(&bounded(flexible, free, free)), Ok(()));
    assert_eq!(refused(&CompatibleShape::any_size("VM.Standard2.1")), Ok(()));
    assert_eq!(
        refused(&bounded("VM.Standard2.1", all, free)).unwrap_err(),
        "ocpuConstraints can only be given for a flexible shape, and VM.Standard2.1 is none"
    );
    assert_eq!(
        refused(&bounded(flexible, (Some(4), Some(2)), free)).unwrap_err(),
        "ocpuConstraints has the minimum 4 above the maximum 2"
    );
    assert_eq!(
        refused(&bounded(flexible, (Some(1), Some(65)), free)).unwrap_err(),
        "ocpuConstraints.max 65 is not between 1 and 64, the limits of VM.Standard.E4.Flex"
    );
    assert_eq!(
        refused(&bounded(flexible, all, (Some(0), None))).unwrap_err(),
        "memoryConstraints.minInGBs 0 is not between 1 and 1024, the limits of VM.Standard.E4.Flex"
    );
}

#[test]
fn an_archive_carries_the_list_with_its_bounds_and_its_own_names() {
    let list = vec![
        CompatibleShape::any_size("BM.Standard2.52"),
        bounded("VM.Standard3.Flex", (Some(1), Some(4)), (Some(2), None)),
    ];
    let carried = for_archive(&list);
    assert_eq!(carried[0].internal_shape_name, "x7-2c.52.768");
    assert_eq!(of_archive(&carried).unwrap(), list);
}

#[test]
fn an_archive_may_name_shapes_that_are_not_known_here_but_no_crossed_bounds() {
    let unknown = ShapeCompatibility {
        internal_shape_name: "VM.Quantum1.1".into(),
        ocpu_constraints: None,
        memory_constraints: None,
    };
    assert_eq!(of_archive(&[unknown]).unwrap(), []);
    let mut crossed =
        for_archive(&[bounded("VM.Standard3.Flex", (Some(8), Some(4)), (None, None))]);
    let error = of_archive(&crossed).unwrap_err();
    assert!(error.message.contains("VM.Standard3.Flex"), "{error}");
    assert!(error.message.contains("minimum 8 above the maximum 4"), "{error}");
    // On a shape of one size bounds mean nothing.
    crossed[0].internal_shape_name = "VM.Standard2.1".into();
    assert_eq!(of_archive(&crossed).unwrap(), [CompatibleShape::any_size("VM.Standard2.1")]);
}

#[test]
fn imports_begin_with_fewer_shapes_than_platform_images() {
    let names = |list: Vec<CompatibleShape>| -> Vec<String> {
        list.into_iter().map(|known| known.shape).collect()
    };
    let (imported, platform) = (names(of_imports()), names(of_platform_images()));
    assert!(imported.iter().all(|name| platform.contains(name)));
    assert!(imported.contains(&"VM.Standard3.Flex".into()));
    for name in ["VM.Standard.E4.Flex", "VM.Standard.B1.1"] {
        assert!(platform.contains(&name.into()) && !imported.contains(&name.into()), "{name}");
    }
    assert!(!platform.contains(&"VM.Standard.A1.Flex".into()));
}
