"""What the benchmarks make of figures; the figures themselves are theirs to check."""

from pathlib import Path

from benchmarks.results import BEGIN, END, Figure, percentile, table, write_into


def figure(*ratios: float, **limits: float) -> Figure:
    return Figure(
        row="P0", measure="this", values=[3.0, 1.0, 2.0], unit="ms", reference="that", ratios=ratios, **limits
    )


def test_the_median_of_the_ratios_is_judged() -> None:
    assert figure(1.0, 2.0, 9.0, most=2.0).met is True
    assert figure(1.0, 2.1, 2.2, most=2.0).met is False
    assert figure(9.0, 10.0, 11.0, least=10.0).met is True
    assert figure(9.0, least=10.0).met is False
    assert figure(9.0).met is None


def test_without_a_reference_the_values_are() -> None:
    assert figure(most=2.0).met is True
    assert figure(most=1.9).met is False


def test_a_quick_run_judges_ratios_by_their_wide_limits_and_never_a_time() -> None:
    assert figure(4.0, most=2.0, quick_most=5.0).quick().met is True
    assert figure(6.0, most=2.0, quick_most=5.0).quick().met is False
    assert figure(0.4, least=10.0, quick_least=0.5).quick().met is False
    assert figure(most=0.1).quick().met is None


def test_a_percentile_is_a_value_that_was_measured() -> None:
    assert percentile([4, 1, 3, 2], 50) == 3
    assert percentile(range(100), 99) == 99
    assert percentile([7], 99) == 7


def test_the_table_has_a_line_for_each_figure() -> None:
    head, rule, line, other = table([figure(1.5, most=2.0), figure(most=1.0)]).splitlines()
    assert len({len(each) for each in (head, rule, line, other)}) == 1
    assert [cell.strip() for cell in line.split("|")[1:-2]] == [
        *("P0", "this", "2 ms", "1 to 3", "1.50 (1.50 to 1.50)", "that", "<= 2 x", "yes"),
    ]
    assert "NO" in other


def test_a_document_gets_the_new_table_in_the_place_of_the_old(tmp_path: Path) -> None:
    document = tmp_path / "it.md"
    document.write_text(f"before\n{BEGIN}old\n{END}\nafter\n")
    write_into(document, "new\n")
    write_into(document, "newer\n")
    assert document.read_text() == f"before\n{BEGIN}\nnewer\n{END}\nafter\n"
