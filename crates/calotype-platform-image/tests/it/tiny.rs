//! Tiny Linux: built, booted without any metadata service, and shut down by its power button.

use std::path::Path;
use std::time::Duration;

use calotype_platform_image::{Firmware, Recipe, build};

use crate::guest::Guest;

/// Seconds with KVM; generous for emulation on a busy machine.
const BOOT_LIMIT: Duration = Duration::from_mins(4);

#[test]
fn tiny_boots_without_a_metadata_service_and_obeys_the_power_button() {
    // Below the target directory, so that the next run finds the packages and the disk.
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("platform-images");
    let mut fractions = Vec::new();
    let built = build(Recipe::Tiny, &cache, &mut |_, fraction| fractions.push(fraction)).unwrap();
    assert!(fractions.is_sorted() && fractions.last() == Some(&1.0), "{fractions:?}");
    let description = &built.description;
    assert_eq!(description.firmware, Firmware::Bios);
    assert_eq!(description.default_user, "opc");
    assert!(description.name.starts_with("Tiny-Linux-12-20"), "{}", description.name);
    assert_eq!(built.disk.metadata().unwrap().len(), description.size_bytes);

    let again = build(Recipe::Tiny, &cache, &mut |_, _| {}).unwrap();
    assert_eq!((&again.disk, &again.description), (&built.disk, description));

    let mut guest = Guest::boot(&built.disk);
    let line = guest.wait_for("tiny: ready", BOOT_LIMIT);
    // No such service here, and the machine does not claim to be in the cloud.
    assert!(line.contains("instance none"), "{line}");
    guest.command("system_powerdown");
    guest.wait_for("tiny: going down for poweroff", BOOT_LIMIT);
    guest.wait_for_exit(BOOT_LIMIT);
}
