"""Declares the demo databases of a library, a clinic and a bike rental."""

from __future__ import annotations

from floe.actors.demo.makers import category, contact, cross, day, foreign, identifier, later, number, person
from floe.actors.demo.schemas import Database, Kind, Table

LIBRARY = Database(
    "library",
    (
        Table(
            "book",
            "book",
            80,
            (
                identifier(),
                cross(
                    "title",
                    ("The Baker's", "A Quiet", "The Glass", "Beyond the", "My Father's", "The Last", "Seven", "Silver"),
                    ("Garden", "River", "Letters", "Winter", "Island", "Clocks", "Harbour", "Road", "Summer", "House"),
                ),
                category(
                    "author",
                    (
                        "Nora Lind", "Sean O'Casey", "Ivo Marek", "Lucia Prado", "Hana Mori", "Tom Ashby", "Eva D'Arcy",
                        "Karim Aziz", "Jean Dupre", "Mona Falk",
                    ),
                    "author", "writer",
                ),
                category("genre", ("crime", "fantasy", "history", "poetry", "travel", "science"), "genre"),
                number("pages", 90, 880, 2, "page count", "number of pages"),
                number("year", 1950, 2023, 1, "publication year", "year", kind=Kind.YEAR),
            ),
        ),
        Table(
            "member",
            "member",
            60,
            (
                identifier(),
                person(),
                category("city", ("Oslo", "Bergen", "Malmo", "Aarhus", "Turku", "Lund"), "city", "home city"),
                day("joined", "2018-01-01", "2023-12-31", "join date", "date of joining"),
            ),
        ),
        Table(
            "loan",
            "loan",
            180,
            (
                identifier(),
                foreign("book_id", "book", 80),
                foreign("member_id", "member", 60),
                day("day", "2022-01-01", "2024-06-30", "day", "loan day"),
                later("returned", "day", 45, "return date", "date of return", null_share=0.2),
            ),
        ),
    ),
)  # fmt: skip

CLINIC = Database(
    "clinic",
    (
        Table(
            "doctor",
            "doctor",
            30,
            (
                identifier(),
                person(),
                category(
                    "field", ("cardiology", "pediatrics", "surgery", "dermatology", "neurology"), "field", "specialty"
                ),
                number("salary", 61000, 148000, 500, "salary", "pay"),
            ),
        ),
        Table(
            "patient",
            "patient",
            70,
            (
                identifier(),
                person(),
                day("born", "1938-01-01", "2016-12-31", "birth date", "date of birth"),
                category("city", ("Porto", "Lisbon", "Braga", "Faro", "Coimbra"), "city", "home city"),
                contact("phone", "555-{}", "phone", "phone number", null_share=0.25),
            ),
        ),
        Table(
            "visit",
            "visit",
            170,
            (
                identifier(),
                foreign("doctor_id", "doctor", 30),
                foreign("patient_id", "patient", 70),
                day("day", "2022-02-01", "2024-08-31", "day", "visit day"),
                number("cost", 30, 420, 0.5, "cost", "price", null_share=0.12),
                category("reason", ("checkup", "fever", "back pain", "vaccine", "rash", "follow-up"), "reason"),
            ),
        ),
    ),
)

BIKES = Database(
    "bikes",
    (
        Table(
            "station",
            "station",
            30,
            (
                identifier(),
                cross(
                    "name",
                    ("North", "South", "Old", "St. Mary's", "Mill", "King's"),
                    ("Gate", "Bridge", "Market", "Park", "Square", "Quay", "Hill"),
                ),
                category("district", ("Centre", "Harbour", "Campus", "Westend", "Airport")),
                number("docks", 8, 64, 1, "number of docks", "dock count"),
            ),
        ),
        Table(
            "bike",
            "bike",
            90,
            (
                identifier(),
                category("model", ("Comet", "Swift", "Cargo Pro", "City One", "Trail X", "E-Glide")),
                foreign("station_id", "station", 30),
                number("price", 250, 2400, 2.5, "price", "purchase price"),
                day("bought", "2019-01-01", "2023-12-31", "purchase date", "date of purchase", null_share=0.15),
            ),
        ),
        Table(
            "rider",
            "rider",
            50,
            (
                identifier(),
                person(),
                category("plan", ("monthly", "yearly", "student", "single", "business"), "plan"),
                contact("email", "user{}@mail.example", "email", "email address", null_share=0.25),
            ),
        ),
        Table(
            "trip",
            "trip",
            190,
            (
                identifier(),
                foreign("bike_id", "bike", 90),
                foreign("rider_id", "rider", 50),
                day("day", "2023-01-01", "2024-09-30", "day", "trip day"),
                number("minutes", 4, 175, 1, "duration", "number of minutes"),
            ),
        ),
    ),
)
