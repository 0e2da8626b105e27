# SPDX-License-Identifier: Apache-2.0
"""The shop's front door: customers talk to it, and it talks to the shop."""
