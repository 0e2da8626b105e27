# SPDX-License-Identifier: Apache-2.0
"""Dies while it is being imported."""

import no_such_module_of_ours  # noqa: F401
