"""What tests share."""

from pkgutil import iter_modules

import pytest

# Otherwise an assertion here that fails would not say what it compared.
pytest.register_assert_rewrite(
    *(f"{__name__}.{module.name}" for module in iter_modules(__path__))
)
