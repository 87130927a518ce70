"""What tests share."""

import sys
from pkgutil import iter_modules

# Otherwise an assertion here that fails would not say what it compared. The
# benchmarks use these modules without pytest.
if pytest := sys.modules.get("pytest"):
    pytest.register_assert_rewrite(
        *(f"{__name__}.{module.name}" for module in iter_modules(__path__))
    )
