# SPDX-License-Identifier: Apache-2.0
"""The shop's HTTP face: routes in, JSON out."""

import logging
from dataclasses import asdict

import requests
from flask import Flask, Response, jsonify, request
from sqlalchemy.exc import NoResultFound

from shop import catalog, orders, reports

logger = logging.getLogger(__name__)

Reply = Response | tuple[Response, int]


def create_app() -> Flask:
    """Build the Flask application."""
    app = Flask("shop")
    app.add_url_rule("/healthz", view_func=healthz)
    app.add_url_rule("/products/<sku>", view_func=product)
    app.add_url_rule("/products/<sku>/quote", view_func=quote)
    app.add_url_rule("/categories/<name>", view_func=category)
    app.add_url_rule("/customers/<int:customer_id>/statement", view_func=statement)
    app.add_url_rule("/orders", view_func=place_order, methods=["POST"])
    app.register_error_handler(NoResultFound, unknown_product)
    return app


def healthz() -> Reply:
    """Say that the process answers."""
    return jsonify(status="ok")


def product(sku: str) -> Reply:
    """Show the page of a product."""
    return jsonify(asdict(catalog.product_page(sku)))


def quote(sku: str) -> Reply:
    """Offer a product at today's price."""
    quantity = request.args.get("quantity", default=1, type=int)
    try:
        return jsonify(catalog.quote(sku, quantity))
    except requests.RequestException:
        logger.exception("no purchase price for %s from the supplier", sku)
        return jsonify(error="no price today, please try again"), 502


def category(name: str) -> Reply:
    """List a category."""
    return jsonify(catalog.products_in(name))


def statement(customer_id: int) -> Reply:
    """List what a customer ordered lately."""
    return jsonify(reports.customer_statement(customer_id))


def place_order() -> Reply:
    """Take an order."""
    wanted = request.get_json()
    order = orders.place_order(wanted["customer_id"], wanted["sku"], wanted["quantity"])
    return jsonify(order=order.id, payment=order.payment_reference), 201


def unknown_product(_error: NoResultFound) -> Reply:
    """Answer 404 for a product that nobody sells."""
    return jsonify(error="no such product"), 404
