"""Prints the models of the HTTP API as an OpenAPI document, from which the page's types are generated."""

import json
import sys

from mirage_gateway.web.descriptions import DescribeRoutes
from mirage_gateway.web.images import ImageRoutes
from mirage_gateway.web.jobs import JobRoutes
from mirage_gateway.web.openapi import describe
from mirage_gateway.web.operations import operations_of
from mirage_gateway.web.quality import QualityRoutes
from mirage_gateway.web.ratings import RatingRoutes
from mirage_gateway.web.readings import ReadRoutes
from mirage_gateway.web.records import RecordRoutes
from mirage_gateway.web.search import SearchRoutes
from mirage_gateway.web.system import SystemRoutes

ROUTES = (
    SearchRoutes,
    DescribeRoutes,
    JobRoutes,
    RecordRoutes,
    ImageRoutes,
    QualityRoutes,
    RatingRoutes,
    ReadRoutes,
    SystemRoutes,
)


def main() -> None:
    """Writes the document to standard output, without its paths."""
    # The list of operations does not depend on the objects that serve them.
    operations = [each for routes in ROUTES for each in operations_of(object.__new__(routes))]
    document = describe(operations, version="0")
    json.dump({**document, "paths": {}}, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
