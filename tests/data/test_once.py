"""What is computed of all rows of a source is computed once for all parts and data sets that it serves."""

from spillover.data.once import OncePerRows


def test_the_same_rows_and_way_are_computed_once() -> None:
    kept: OncePerRows[int] = OncePerRows(2)
    computed = []

    def length(rows: list[dict[str, str]]) -> int:
        return kept.get((rows,), "length", lambda: computed.append(rows) or len(rows))  # type: ignore[func-returns-value]

    first, second = [{"a": "1"}], [{"a": "1"}, {"a": "2"}]
    assert [length(first), length(second), length(first), length(second)] == [1, 2, 1, 2]
    assert len(computed) == 2


def test_what_was_asked_for_last_is_kept() -> None:
    kept: OncePerRows[str] = OncePerRows(1)
    one, other = [{"a": "1"}], [{"a": "2"}]
    asked = [kept.get((rows,), how, lambda how=how: how) for rows, how in ((one, "x"), (one, "y"), (other, "x"))]
    assert asked == ["x", "y", "x"]
    assert kept.get((one,), "x", lambda: "again") == "again"
