from collections.abc import Sequence

from affinage.documents.extraction.layout import Cell, Line, joined
from affinage.documents.extraction.rulings import Grid, Ruling, grids, merged, with_tables

COLUMNS, ROWS = (100.0, 200.0, 300.0), (700.0, 680.0, 660.0)


def ruled(columns: Sequence[float] = COLUMNS, rows: Sequence[float] = ROWS) -> list[Grid]:
    level = [Ruling(y, columns[0], columns[-1]) for y in rows]
    return grids(level, [Ruling(x, rows[-1], rows[0]) for x in columns])


def line(x: float, y: float, *texts: str) -> Line:
    cells = tuple(Cell(x + 100 * number, x + 100 * number + 50, text) for number, text in enumerate(texts))
    return Line(page=1, cells=cells, baseline=y, height=842, size=10, bold=False)


def tables(lines: Sequence[Line], found: Sequence[Grid]) -> list[tuple[tuple[str, ...], ...] | None]:
    return [one.rows for one in with_tables(lines, found, joined=joined)]


def test_a_ruling_drawn_cell_by_cell_is_one() -> None:
    assert merged([Ruling(10, 0, 50), Ruling(10.3, 50.5, 90), Ruling(10, 200, 250)]) == [Ruling(10, 0, 90), Ruling(10, 200, 250)]


def test_rulings_that_cross_make_a_grid_and_those_apart_another() -> None:
    far = [Ruling(y, 400, 500) for y in (300, 280, 260)], [Ruling(x, 260, 300) for x in (400, 450, 500)]
    level = [Ruling(y, 100, 300) for y in ROWS] + far[0]
    assert [grid.columns for grid in grids(level, [Ruling(x, 660, 700) for x in COLUMNS] + far[1])] == [COLUMNS, (400, 450, 500)]


def test_a_frame_and_a_column_of_boxes_are_no_tables() -> None:
    assert ruled(columns=(100, 300), rows=(700, 660)) == []
    assert ruled(columns=(100, 300)) == []
    assert grids([], []) == []


def test_the_lines_of_a_cell_are_joined_and_empty_cells_stay_empty() -> None:
    held = [line(105, 692, "Poste", "Délai"), line(105, 676, "Achats de four-"), line(105, 666, "nitures")]
    before, after = line(105, 720, "Avant."), line(105, 640, "Après.")
    expected = (("Poste", "Délai"), ("Achats de fournitures", ""))
    assert tables([before, *held, after], ruled()) == [None, expected, None]


def test_a_grid_that_is_hardly_filled_is_no_table() -> None:
    many = ruled(columns=[100 + 20 * n for n in range(11)], rows=[700 - 20 * n for n in range(11)])
    held = [line(105, 692, "axe"), line(105, 540, "titre")]
    assert tables(held, many) == [None, None]


def test_a_merged_cell_is_not_cut_where_no_ruling_stands() -> None:
    (grid,) = grids([Ruling(y, 100, 300) for y in ROWS], [Ruling(100, 660, 700), Ruling(300, 660, 700), Ruling(200, 660, 680)])
    assert not grid.parts(190, 210, 690)
    assert grid.parts(190, 210, 670)
