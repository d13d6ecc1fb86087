"""Declares the demo databases of a bistro, a football league and a music shop."""

from __future__ import annotations

from floe.actors.demo.makers import category, contact, cross, day, foreign, identifier, number, person
from floe.actors.demo.schemas import Database, Kind, Table

BISTRO = Database(
    "bistro",
    (
        Table(
            "dish",
            "dish",
            40,
            (
                identifier(),
                cross(
                    "name",
                    ("Roast", "Smoked", "Grandma's", "Spicy", "Cold", "Baked"),
                    ("Trout", "Lentils", "Duck", "Tofu", "Beets", "Pears", "Chicken", "Noodles"),
                ),
                category("kind", ("starter", "main", "dessert", "side", "soup"), "kind", "type"),
                number("price", 4, 38, 0.25),
            ),
        ),
        Table(
            "guest",
            "guest",
            60,
            (
                identifier(),
                person(),
                category("city", ("Leeds", "York", "Hull", "Ripon", "Whitby"), "city", "home city"),
                contact("phone", "0113-{}", "phone", "phone number", null_share=0.3),
            ),
        ),
        Table(
            "orders",
            "order",
            200,
            (
                identifier(),
                foreign("dish_id", "dish", 40),
                foreign("guest_id", "guest", 60),
                day("day", "2023-03-01", "2024-10-31", "day", "order day"),
                number("qty", 1, 9, 1, "quantity"),
                number("tip", 0.5, 24, 0.5, "tip", null_share=0.2),
            ),
        ),
    ),
)

FOOTBALL = Database(
    "football",
    (
        Table(
            "team",
            "team",
            30,
            (
                identifier(),
                cross(
                    "name",
                    ("Red", "Royal", "Sporting", "Real", "Iron", "Queen's"),
                    ("Lions", "Rovers", "United", "Falcons", "Wanderers", "Athletic"),
                ),
                category("city", ("Milan", "Turin", "Genoa", "Naples", "Bari", "Parma")),
                number("founded", 1886, 1999, 1, "founding year", "year of founding", kind=Kind.YEAR),
                number("budget", 2, 95, 0.5, "budget"),
            ),
        ),
        Table(
            "player",
            "player",
            150,
            (
                identifier(),
                person(),
                foreign("team_id", "team", 30),
                category("role", ("forward", "midfielder", "defender", "goalkeeper"), "role", "position"),
                number("age", 17, 39, 1, "age", kind=Kind.LEVEL),
                number("goals", 0, 64, 1, "number of goals", "goal count"),
                number("height", 165, 204, 1, "height", kind=Kind.LEVEL, null_share=0.12),
            ),
        ),
        Table(
            "game",
            "game",
            120,
            (
                identifier(),
                foreign("home_id", "team", 30, "home team"),
                foreign("away_id", "team", 30, "away team"),
                day("day", "2021-08-01", "2024-05-31", "day", "game day"),
                number("crowd", 400, 42000, 10, "crowd", "crowd size", null_share=0.15),
            ),
        ),
    ),
)

MUSIC = Database(
    "music",
    (
        Table(
            "artist",
            "artist",
            40,
            (
                identifier(),
                cross(
                    "name",
                    ("Velvet", "Neon", "Devil's", "Paper", "Electric", "Lonely", "Golden"),
                    ("Foxes", "Orchard", "Choir", "Engines", "Sisters", "Tide", "Parade"),
                ),
                category("country", ("Ireland", "Brazil", "Japan", "Canada", "Ghana", "Spain")),
                number("formed", 1964, 2018, 1, "founding year", "year of forming", kind=Kind.YEAR, null_share=0.12),
            ),
        ),
        Table(
            "album",
            "album",
            90,
            (
                identifier(),
                cross(
                    "title",
                    ("Midnight", "Blue", "Nobody's", "Open", "Broken", "Slow", "Distant"),
                    ("Hearts", "Signals", "Mirrors", "Roads", "Fires", "Rain", "Rooms", "Echo", "Weather"),
                ),
                foreign("artist_id", "artist", 40),
                number("year", 1966, 2023, 1, "release year", "year of release", kind=Kind.YEAR),
                number("price", 5, 48, 0.25),
            ),
        ),
        Table(
            "buyer",
            "buyer",
            50,
            (
                identifier(),
                person(),
                category("city", ("Dublin", "Cork", "Galway", "Sligo", "Kerry"), "city", "home city"),
            ),
        ),
        Table(
            "sale",
            "sale",
            180,
            (
                identifier(),
                foreign("album_id", "album", 90),
                foreign("buyer_id", "buyer", 50),
                day("day", "2022-01-01", "2024-09-30", "day", "sale day"),
                number("qty", 1, 8, 1, "quantity", "number of copies"),
            ),
        ),
    ),
)
