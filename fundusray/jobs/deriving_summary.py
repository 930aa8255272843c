"""What was done to the photographs of a set that was derived with a network: its receipts as a
table, and in figures. The paper regrets not having kept it (Avramidis et al., section 4)."""

from collections import Counter
from collections.abc import Sequence
from statistics import median
from typing import Any

from fundusray.attacks import length_text
from fundusray.harmless import printable_text

DONE = {"+": "added", "0": "left", "-": "subtracted"}
"""Sign of a choice -> what was done with the step of a class: one that is added leads away from
it, one that is subtracted towards it."""


def receipt_rows(receipts: list[dict[str, Any]], classes: Sequence[str]) -> list[dict[str, Any]]:
    """The receipts as rows of equal keys; a choice has a column for each class, an order is one
    text, and what was left as it was has empty cells."""
    rows = []
    for receipt in receipts:
        row = {key: value for key, value in receipt.items() if key not in ("choice", "order")}
        if "order" in receipt:
            row["order"] = " > ".join(receipt["order"])
        for name, sign in zip(classes, receipt.get("choice", ""), strict=False):
            row[f"step_{name}"] = DONE[sign]
        rows.append(row)
    keys = list(dict.fromkeys(key for row in rows for key in row))
    return [{key: row.get(key, "") for key in keys} for row in rows]


def change_figures(receipts: list[dict[str, Any]], classes: Sequence[str]) -> dict[str, Any]:
    """How many photographs were changed and how far in the median, exactly and as stored; of
    layered ones the passes and where they led first, of selective ones what was done with the step
    of each class."""
    done = [receipt for receipt in receipts if receipt["changed"]]
    figures: dict[str, Any] = {"changed": len(done)}
    if not done:
        return figures
    for name in ("linf", "linf_stored"):
        figures[f"median_{name}"] = median(receipt[name] for receipt in done)
        figures[f"largest_{name}"] = max(receipt[name] for receipt in done)
    if "choice" in done[0]:
        signs = [Counter(receipt["choice"][c] for receipt in done) for c in range(len(classes))]
        figures["steps"] = {
            name: {word: own[sign] for sign, word in DONE.items()}
            for name, own in zip(classes, signs, strict=True)
        }
        for name in ("loss_before", "loss", "loss_stored"):
            figures[f"mean_{name}"] = sum(receipt[name] for receipt in done) / len(done)
        return figures
    passes = Counter(receipt["passes"] for receipt in done)
    figures["passes"] = {str(num): passes[num] for num in sorted(passes)}
    led = Counter(name for receipt in done for name in receipt["order"])
    figures["led_to"] = {name: led[name] for name in classes}
    figures["single"] = sum(receipt["single"] for receipt in done)
    figures["single_stored"] = sum(receipt["single_stored"] for receipt in done)
    return figures


def change_sentences(figures: dict[str, Any]) -> list[str]:
    """The same in words."""
    num = figures["changed"]
    if not num:
        return ["no photograph was changed"]
    lines = [
        f"{num:,} changed; largest change of a pixel {length_text(figures['median_linf'])} in the "
        f"median, {length_text(figures['largest_linf'])} at most; as stored, in whole levels, "
        f"{length_text(figures['median_linf_stored'])} and "
        f"{length_text(figures['largest_linf_stored'])}"
    ]
    if "steps" in figures:
        lines.append(
            f"mean loss {figures['mean_loss_before']:.4f} before, {figures['mean_loss']:.4f} "
            f"after, {figures['mean_loss_stored']:.4f} as stored"
        )
        lines.append("step of a class added (away from it), left, subtracted (towards it):")
        for name, own in figures["steps"].items():
            shares = ", ".join(f"{word} {count / num:.0%}" for word, count in own.items())
            lines.append(f"  {printable_text(name)}: {shares}")
        return lines
    passes = ", ".join(f"{count:,} after {text}" for text, count in figures["passes"].items())
    led = ", ".join(
        f"{printable_text(name)} {count:,}" for name, count in figures["led_to"].items()
    )
    return [
        *lines,
        f"passes: {passes}; of one class in the end {figures['single']:,}, as stored "
        f"{figures['single_stored']:,}",
        f"passes that led to a class: {led}",
    ]
