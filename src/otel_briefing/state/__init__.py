# SPDX-License-Identifier: Apache-2.0
"""What is remembered, where it lives, and who may write the page."""
