import numpy as np

from worldvla_ros.data import places


def test_columns_have_names_and_an_order():
    row = np.array(places.COLUMNS)
    assert row[places.POSITION].tolist() == ['x', 'y', 'z']
    assert row[places.VIEW].tolist() == ['column', 'row']
    assert (row[places.VIEW_COLUMN], row[places.VIEW_ROW]) == ('column', 'row')


def test_unknown_places_are_nan_in_every_column():
    assert places.unknown().shape == (5,)
    rows = places.unknown(3, 2)
    assert (rows.shape, rows.dtype) == ((3, 2, 5), np.float32)
    assert np.isnan(rows).all()
