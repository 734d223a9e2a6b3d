"""The growing season of each year: the days between the last frost of spring and the first of autumn.

A frost is a night of 0 C or below; spring ends with June, as in the northern hemisphere. A year without a frost on both
sides has no season that could be measured. Days must be in order; nights that are missing count as free of frost.
"""
inputs = {
    "date": ["2024-03-20", "2024-04-11", "2024-10-30", "2024-12-02", "2025-03-02", "2025-07-15", "2025-11-20"],
    "temp_min": [-1.5, 0.0, -0.4, -3.0, -2.1, 14.0, -0.9],
}
parameters = {"frost_c": 0.0}

DAYS_BEFORE = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334]


def day_of_year(date):
    year, month, day = int(date[:4]), int(date[5:7]), int(date[8:10])
    is_leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    return DAYS_BEFORE[month - 1] + day + (is_leap and month > 2)


def season(year):
    """The season of one year; None for what did not occur."""
    frosts = [date for date, night in zip(inputs["date"], inputs["temp_min"])
              if date[:4] == year and night <= parameters["frost_c"]]
    last = max((date for date in frosts if int(date[5:7]) <= 6), default=None)
    first = min((date for date in frosts if int(date[5:7]) > 6), default=None)
    return {
        "year": int(year),
        "last_frost": last and last.replace("/", "-"),
        "first_frost": first and first.replace("/", "-"),
        "days": day_of_year(first) - day_of_year(last) - 1 if last and first else None,
        "frosts": len(frosts),
    }


seasons = [season(year) for year in dict.fromkeys(date[:4] for date in inputs["date"])]
measured = [row for row in seasons if row["days"] is not None]
if measured:
    shortest = min(measured, key=lambda row: row["days"])
    longest = max(measured, key=lambda row: row["days"])
    headline = f"frost-free {shortest['days']} days in {shortest['year']}, {longest['days']} in {longest['year']}"
else:
    headline = "no year has frosts on both sides of its summer"

result = {"headline": headline, "seasons": seasons}
print(result["headline"])
