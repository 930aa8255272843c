"""What the four-model scheme leaves: Tables 1 and 2, the verdicts, curves, sheets and the page."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from fundusray import files
from fundusray.cluster.segmentation_scheme import MODELS, Scheme, TrainedModel
from fundusray.data.prepared.prepared_set import PreparedSet
from fundusray.jobs.segmentation_pictures import most_lesions, segmented_pictures
from fundusray.jobs.segmentation_reports import panels_of
from fundusray.metrics.segmentation import froc
from fundusray.metrics.segmentation.attacked import CLEAN
from fundusray.metrics.segmentation.repeats import (
    repeated_segmentation_differences,
    repeated_segmentation_summary,
)
from fundusray.models.bundle import load_bundle
from fundusray.recipes import find_recipe
from fundusray.reports.evaluation_page import EvaluationPage, PageFigure, PageTable, evaluation_page
from fundusray.reports.number_text import estimate_text, number_text, people_text
from fundusray.reports.scheme_tables import M2MRF, scheme_rows, scheme_tables
from fundusray.reports.segmentation_figures import froc_curves, validation_loss_curves
from fundusray.reports.segmentation_page import fall_tables, verdict_text
from fundusray.reports.segmentation_sheets import segmentation_sheet

Tables = Mapping[str, Mapping[tuple[float, str], Mapping[str, Sequence[pa.Table]]]]
"""Attack -> (eps, case) -> model -> a table of each training."""
Row = dict[str, Any]
COMPARED = ("miou", "maupr", "pixel_accuracy", "dice")
PICTURES = 3
CLAIMS = {
    "model four against model one": ("combined", "original"),
    "model three, never trained on PGD, against model one": ("selective", "original"),
    "model two against model one": ("layered", "original"),
    "model four against model two": ("combined", "layered"),
}
"""What is said -> the models that are compared: the paper holds model three to be partly robust
though it never met PGD, and model four to be as good as model two."""


def write_scheme(
    folder: str,
    scheme: Scheme,
    trained: Sequence[TrainedModel],
    tables: Tables,
    opened: PreparedSet,
    said: Sequence[str],
) -> dict[str, Any]:
    """Writes tables, pictures and the page, and prints what came of it; where they are.

    Args:
        said: the command that makes it again, then notes.
    """
    cases = {(name, *case): own for name, of in tables.items() for case, own in of.items()}
    clean = next(own for (_, _, case), own in cases.items() if case == CLEAN)
    attacked = next(own for (name, eps, _), own in cases.items() if name == "table2" and eps)
    summaries = {key: _summaries(own) for key, own in cases.items()}
    places, published = {}, published_tables()
    for key, own in (("table1", clean), ("table2", attacked)):
        places[key] = files.join(folder, f"{key}.csv")
        files.write_csv(places[key], scheme_rows(_summaries(own), published[key]))
    rows = _attack_rows(summaries, scheme)
    places["attacks"] = files.join(folder, "attacks.csv")
    files.write_csv(places["attacks"], rows)
    differences = {
        _case_title(key, scheme): {
            claim: repeated_segmentation_differences(own[model], own[other], COMPARED)
            for claim, (model, other) in CLAIMS.items()
        }
        for key, own in _shown_cases(cases).items()
    }
    verdicts = _verdicts(differences)
    places["verdicts"] = files.join(folder, "verdicts.csv")
    files.write_csv(places["verdicts"], verdicts)
    notes = [*said[1:], *_notes(scheme, trained)]
    page = EvaluationPage(
        title="Robust segmentation: the four-model scheme",
        caption=f"{len(MODELS)} models, {scheme.repeats} trainings each; Avramidis et al. (draft)",
        summary=_lines(_summaries(clean), _summaries(attacked), verdicts),
        tables=[
            *scheme_tables(_summaries(clean), _summaries(attacked), published, differences, M2MRF),
            _worst_cases(rows),
            *_sizes(clean, attacked),
        ],
        figures=_figures(folder, scheme, trained, opened, clean),
        notes=notes,
        command=said[0],
    )
    places["report"] = files.join(folder, "report.html")
    files.write_bytes(places["report"], evaluation_page(page).encode())
    for line in page.summary:
        print(line)
    for note in notes:
        print(f"note: {note}")
    for name, place in places.items():
        print(f"{name}: {place}")
    return places | {"n": next(iter(_summaries(clean).values()))["n"]}


def published_tables() -> dict[str, dict[str, dict[str, float]]]:
    """table1 and table2 -> model -> the paper's figures."""
    return {
        table: {model: find_recipe(f"avramidis.{table}.{model}").published for model in MODELS}
        for table in ("table1", "table2")
    }


def _summaries(own: Mapping[str, Sequence[pa.Table]]) -> dict[str, Row]:
    return {model: repeated_segmentation_summary(list(tables)) for model, tables in own.items()}


def _shown_cases(cases: Mapping[tuple[str, float, str], Any]) -> dict[tuple[str, float, str], Any]:
    """The photographs as they are once, the attack of Table 2, and the worst cases of SEA."""
    shown, clean = {}, False
    for (name, eps, case), own in cases.items():
        if case == CLEAN:
            if clean:
                continue
            clean = True
        elif name == "sea" and not case.startswith("worst"):
            continue
        shown[name, eps, case] = own
    return shown


def _case_title(key: tuple[str, float, str], scheme: Scheme) -> str:
    name, _, case = key
    if case == CLEAN:
        return "photographs as they are"
    attack = str(scheme.attacks[name])
    return attack if name == "table2" else f"{attack}, {case.replace('_', ' ')}"


def _attack_rows(
    summaries: Mapping[tuple[str, float, str], Mapping[str, Row]], scheme: Scheme
) -> list[Row]:
    """A row for each attack, case and model."""
    return [
        {"attack": str(scheme.attacks[name]), "case": case, "eps": eps, "model": model}
        | {key: value for key, value in summary.items() if not key.endswith("_why")}
        for (name, eps, case), own in summaries.items()
        for model, summary in own.items()
    ]


def _verdicts(differences: Mapping[str, Mapping[str, Sequence[Row]]]) -> list[Row]:
    """What each difference says, one by one."""
    return [
        {"condition": condition, "claim": claim, "figure": row["name"]}
        | {key: row[key] for key in ("difference", "low", "high", "verdict", "n", "why")}
        for condition, own in differences.items()
        for claim, rows in own.items()
        for row in rows
    ]


def _lines(
    clean: Mapping[str, Row], attacked: Mapping[str, Row], verdicts: Sequence[Row]
) -> list[str]:
    """The page's summary and the terminal's."""
    first = clean["original"]
    lines = [
        f"{first['n']:,} photographs, of which {number_text(first['background_accuracy'])} of the "
        "pixels are background: everything called background has that pixel accuracy, mIoU "
        f"{number_text(first['background_miou'])} and Dice 0, and so has a network that an attack "
        "toward background has beaten"
    ]
    for model in clean:
        parts = [
            f"{name}: pixel accuracy {estimate_text(own[model], 'pixel_accuracy')}, mIoU "
            f"{estimate_text(own[model], 'miou')}, mAUPR {estimate_text(own[model], 'maupr')}, "
            f"loss {number_text(own[model]['loss'])}"
            for name, own in (("as they are", clean), ("attacked", attacked))
        ]
        lines.append(f"model {MODELS.index(model) + 1} ({model}): {'; '.join(parts)}")
    for row in verdicts:
        # The running worst case stands in the tables.
        if row["figure"] in ("miou", "maupr") and "running" not in row["condition"]:
            name = {"miou": "mIoU", "maupr": "mAUPR"}[row["figure"]]
            lines.append(f"{row['claim']}, {row['condition']}: {name} {verdict_text(row)}")
    return lines


def _worst_cases(rows: Sequence[Row]) -> PageTable:
    body = [
        [
            f"{row['model']}, {row['case'].replace('_', ' ')}",
            row["attack"],
            *(estimate_text(row, name) for name in COMPARED),
        ]
        for row in rows
        if row["case"] != CLEAN
    ]
    caption = (
        "Worst cases of the ensemble: of each photograph the loss that leaves the fewest pixels "
        "right, and greedily the one that makes the pooled mIoU smallest."
    )
    head = ["model and case", "attack", "mIoU", "mAUPR", "pixel accuracy", "Dice"]
    return PageTable("Every attack", caption, head, body)


def _sizes(
    clean: Mapping[str, Sequence[pa.Table]], attacked: Mapping[str, Sequence[pa.Table]]
) -> list[PageTable]:
    """What the attack takes of the AUPR of lesions by their size, of each model's first
    training."""
    made: list[PageTable] = []
    for model in clean:
        people = people_text(repeated_segmentation_summary(clean[model][:1]), "image")
        made += fall_tables(model, clean[model][0], attacked[model][0], people)
    return made


def _figures(
    folder: str,
    scheme: Scheme,
    trained: Sequence[TrainedModel],
    opened: PreparedSet,
    clean: Mapping[str, Sequence[pa.Table]],
) -> list[PageFigure]:
    """Figure 4, a FROC curve, and for each model photographs, masks and answers."""
    histories: dict[str, list[Any]] = {}
    for one in trained:
        histories.setdefault(one.model, []).append(one.result["history"])
    curves = validation_loss_curves(histories)
    files.write_bytes(files.join(folder, "validation_loss.png"), curves)
    made = [PageFigure("Validation loss (Figure 4)", curves, "by share of each training")]
    lesions = froc_curves({model: froc(tables[0]) for model, tables in clean.items()})
    files.write_bytes(files.join(folder, "froc.png"), lesions)
    made.append(PageFigure("Lesions found", lesions, "sensitivity by false alarms an image"))
    side = trained[0].result["reported_split"]
    rows = most_lesions(opened, trained[0].run.rows[side], PICTURES)
    for one in trained:
        if one.repeat:
            continue
        bundle = load_bundle(one.result["bundle"])
        pictures = segmented_pictures(bundle, opened, rows, scheme.attacks["table2"])
        panels = [panels_of(picture) for picture in pictures]
        sheet = segmentation_sheet(panels, opened.classes, title=one.model)
        files.write_bytes(files.join(folder, f"model_{one.model}.png"), sheet)
        said = "photograph, mask, prediction, prediction of the attacked photograph"
        made.append(PageFigure(f"Model {one.model} (Figures 5 to 8)", sheet, said))
    return made


def _notes(scheme: Scheme, trained: Sequence[TrainedModel]) -> list[str]:
    """How the models came about."""
    methods = " and ".join(str(one) for one in scheme.methods.values())
    epochs = len(trained[0].result["history"])
    shown = (
        "there are no test photographs: all figures are of the validation photographs, which chose "
        "each model's epoch by Dice: optimistic"
        if trained[0].result["reported_split"] == "val"
        else "the test photographs are the same for all; the epoch is chosen by Dice on clean "
        "validation photographs"
    )
    return [
        f"copies of the training photographs were made by {methods} with the first training of "
        "model one; every training of a model learns the same copies",
        f"all models make as many updates: model four sees each of its three versions in a third "
        f"of {epochs} epochs, which is the paper's cut of epochs by two thirds",
        shown,
        "the paper's figures are of histology and of another network: their order can be "
        "compared, their size cannot; M2MRF's is of IDRiD's own test side at full resolution",
    ]
