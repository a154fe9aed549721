"""What more than one test does to an image."""

import json


def add_schema(region, image):
    """A capability schema of one element."""
    version = region.oci("compute", "global-image-capability-schema", "list")[0]["current-version-name"]
    firmware = {"descriptorType": "enumstring", "source": "IMAGE", "values": ["BIOS"], "defaultValue": "BIOS"}
    region.oci("compute", "image-capability-schema", "create", "-c", region.tenancy, "--image-id", image,
               "--global-image-capability-schema-version-name", version,
               "--schema-data", json.dumps({"Compute.Firmware": firmware}))
