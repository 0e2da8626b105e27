# SPDX-License-Identifier: Apache-2.0
"""Sets providers that implement the API without the SDK, and a handler that feeds them."""

import logging

import fail
import vendor
from opentelemetry import _logs
from opentelemetry.instrumentation.logging.handler import LoggingHandler

vendor.WithoutSDK().configure()
logging.getLogger().addHandler(LoggingHandler(logger_provider=_logs.get_logger_provider()))
fail.main()
