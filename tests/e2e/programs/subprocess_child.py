# SPDX-License-Identifier: Apache-2.0
"""Fails, runs another program that fails, and says what that one finds in its environment."""

import subprocess
import sys
from pathlib import Path

import fail

fail.main()
child = subprocess.Popen([sys.executable, str(Path(__file__).parent / "fail.py")])
child.wait()
print("child", child.pid)
ask = "import os; print('auto', os.environ.get('OTEL_PYTHON_LOG_AUTO_INSTRUMENTATION'))"
subprocess.run([sys.executable, "-c", ask], check=True)
