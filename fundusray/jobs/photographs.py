"""Jobs about photographs: look at a set, prepare it, measure its colours and its leaks."""

from typing import Any

from fundusray import files
from fundusray.cluster import measure_leak_premium
from fundusray.cluster.results import read_result
from fundusray.cluster.runtime.demand import require_writable
from fundusray.cluster.runtime.start import start_ray
from fundusray.cluster.scan import scan_set
from fundusray.cluster.statistics import set_colour_statistics
from fundusray.command import Command
from fundusray.config import Recipe, override
from fundusray.data.manifest.patients import unknown_patients_caveat
from fundusray.data.prepared.prepared_set import open_set
from fundusray.data.scan.examine import thumbnails
from fundusray.jobs.command_to_recipe import own_number, prepared_of, print_recipe, recipe_of
from fundusray.jobs.looks import Looks, record_look
from fundusray.reports import leak_premium as premium_report
from fundusray.reports import scan_summary as scan_report
from fundusray.runs.check_segmentation import require_label
from fundusray.runs.run import plan_run
from fundusray.runs.split_of_run import split_of


def prepare(asked: Command) -> dict[str, Any]:
    """Prepares a set; its folder."""
    recipe = recipe_of(asked, "balancing")
    if asked.show:
        return print_recipe(recipe)
    folder = prepared_of(recipe)
    unknown = unknown_patients_caveat(open_set(folder).table)
    ends = {"prepared": folder, "patients": unknown or "known"}
    return {"status": "finished", "folder": folder} | ends


def leak_premium(asked: Command) -> dict[str, Any]:
    """Trains one recipe under a split by image and one by patient, and compares them in pairs."""
    repeats, asked = own_number(asked, "repeats", "3", 100)
    recipe = with_test_share(recipe_of(asked, "balancing"))
    require_label(recipe, recipe.name)
    if asked.show:
        return print_recipe(recipe)
    prepared = prepared_of(recipe)
    run = plan_run(recipe, prepared, recipe.run.storage)
    key = files.hash_json([run.key, repeats], 8)
    name = recipe.run.name or recipe.name
    folder = files.join(recipe.run.storage, f"{name}-leak-premium-{key}")
    found = measure_leak_premium.measure_leak_premium(run, folder, repeats)
    looks: dict[str, Looks] = {}
    manifest = run.prepared.info["manifest"]
    for trained in found["runs"]:
        result = read_result(trained["folder"])
        assert result is not None, "the premium is of finished runs"
        record_look(manifest, result, recipe.run.storage, folder, looks)
    before = Looks(max((one.earlier for one in looks.values()), default=0))
    places = premium_report.write_premium(folder, name, found)
    print(files.read_bytes(places["report"]).decode())
    print(f"table: {places['table']}")
    print(f"test rows looked at {before.earlier:,} times before")
    ends = {"prepared": prepared, "patients": found["unknown"] or "known"}
    return {"status": "finished", "folder": folder} | ends | places | before.result


def with_test_share(recipe: Recipe) -> Recipe:
    """The recipe with half of its validation share as the test share, where it has none: rows that
    choose the epoch cannot tell what a leak adds."""
    train, val, test = recipe.data.fractions
    if test:
        return recipe
    changed = override(recipe, {"data.fractions": (train, val / 2, val / 2)})
    shares = ",".join(f"{share:g}" for share in changed.data.fractions)
    print(
        f"{recipe.name} has no test share: half of the validation share is taken for it "
        f"(data.fractions={shares})",
        flush=True,
    )
    return changed


def colour_statistics(asked: Command) -> dict[str, Any]:
    """Measures the colours of the train side; prints them as settings of a recipe."""
    recipe = recipe_of(asked, "balancing")
    if asked.show:
        return print_recipe(recipe)
    prepared = prepared_of(recipe)
    split = split_of(open_set(prepared), recipe)
    found = set_colour_statistics(prepared, split.rows["train"])
    key = files.hash_json([split.prepared.info["manifest"], split.digest], 8)
    place = files.join(recipe.run.storage, f"statistics-{files.base_name(prepared)}-{key}.json")
    files.write_json(place, found)
    print(f"{found['images']:,} images of the train side, {found['pixels']:,} pixels")
    for name in ("mean", "std"):
        print(f"model.{name}=" + ",".join(f"{value:.4f}" for value in found[name]))
    print(f"statistics: {place}")
    return {"status": "finished", "statistics": place, "prepared": prepared} | found


def scan(asked: Command) -> dict[str, Any]:
    """Looks at every photograph of a set before anyone trains on it; where the findings are."""
    recipe = recipe_of(asked, "balancing")
    if asked.show:
        return print_recipe(recipe)
    require_writable(recipe.run.storage)
    start_ray()
    folder, manifest, findings = scan_set(recipe, recipe.run.storage)
    names = {name for row in scan_report.contact_sheet_rows(findings.facts) for name, _ in row}
    pictures = thumbnails(manifest.table, names, manifest.roots, 256)
    places = scan_report.write_scan(folder, findings.facts, pictures)
    print(files.read_bytes(places["summary"]).decode())
    places |= {"scan": files.join(folder, "scan.parquet")}
    for name, place in places.items():
        print(f"{name.replace('_', ' ')}: {place}")
    unknown = unknown_patients_caveat(manifest.table)
    return {"status": "finished", "folder": folder, "patients": unknown or "known"} | places
