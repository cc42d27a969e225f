"""Every method of the package satisfies the suite that is shipped for users' own; a new one is found by its file.

`pytest -k TestSparse` runs one method's.
"""

import pytest

from trainables.core.method import find_method, method_names
from trainables.testing import conformance

for _name in method_names():
    globals()[f"Test{_name.title().replace('_', '')}"] = conformance(_name)


@pytest.mark.parametrize("name", method_names())
def test_its_space_and_its_module_share_a_name(name):
    assert find_method(name).config.__module__ == f"search_spaces.{name}"
