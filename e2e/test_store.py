"""Looking after the image store: what images take, and damage that is found, named and repaired."""

import json
import shutil


def scrub(region, *arguments):
    return json.loads(region.calotype("store", "scrub", "--json", *arguments))


def usage(region):
    return json.loads(region.calotype("store", "usage", "--json"))


def test_images_say_what_deleting_them_frees(region):
    assert region.tiny
    images = json.loads(region.calotype("image", "usage", "--json"))
    assert images
    for image in images:
        assert 0 < image["storedBytes"] == image["sharedBytes"] + image["uniqueBytes"]
        assert image["storedBytes"] <= image["dataBytes"] * 1.01 + 8224
        assert image["dataBytes"] <= image["logicalBytes"] + 65536
        assert image["freedByDeletionBytes"] in (0, image["uniqueBytes"])
    assert images[0]["displayName"] in region.calotype("image", "usage")


def test_scrub_names_an_image_and_repairs_it_from_a_copy(region, tmp_path):
    assert region.tiny
    assert scrub(region)["isWhole"]
    store = region.directory / "store"
    copy = shutil.copytree(store, tmp_path / "copy")
    pack = min((store / "packs").iterdir())
    # In the payload of the first chunk: behind the header and the entry.
    with open(pack, "r+b") as file:
        file.seek(200)
        byte = file.read(1)[0]
        file.seek(200)
        file.write(bytes([byte ^ 1]))
    report = scrub(region, "--repair-from", str(copy))
    assert report["isWhole"] and report["chunksDamaged"] == report["chunksRepaired"] == 1
    named = {affected["displayName"] for affected in report["affected"]}
    images = json.loads(region.calotype("image", "usage", "--json"))
    assert named & {image["displayName"] for image in images}
    assert usage(region)["lastScrub"] == report
    assert "freed" in region.calotype("store", "collect")
    assert scrub(region, "--deep")["packsDamaged"] == 0
