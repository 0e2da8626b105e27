# SPDX-License-Identifier: Apache-2.0
"""What people and agents ask from outside: each face is thin and asks `queries` alone."""
