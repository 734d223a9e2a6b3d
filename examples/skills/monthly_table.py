"""A table of the twelve months over all years: mean temperature, mean rain, wet days, and the weather seen most.

Rain and wet days are per month of an average year: sums divided by how many times that month occurs in the records.
"""
import collections
import statistics

inputs = {
    "date": ["2024-01-15", "2024-01-16", "2024-07-15", "2024-07-16"],
    "precipitation": [4.2, 0.0, 0.0, 1.3],
    "temp_max": [6.0, 7.0, 25.0, 23.0],
    "temp_min": [1.0, 2.0, 13.0, 12.0],
    "weather": ["rain", "fog", "sun", "drizzle"],
}
parameters = {"wet_mm": 1.0}

NAMES = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]


def month_row(name, days):
    """One row from the indices of a calendar month's days."""
    years = len({inputs["date"][day][:4] for day in days})
    rain = [inputs["precipitation"][day] for day in days]
    return {
        "month": name,
        "mean_c": round(statistics.fmean((inputs["temp_max"][day] + inputs["temp_min"][day]) / 2 for day in days), 1),
        "rain_mm": round(sum(rain) / years, 1),
        "wet_days": round(sum(fall >= parameters["wet_mm"] for fall in rain) / years, 1),
        "mostly": collections.Counter(inputs["weather"][day] for day in days).most_common(1)[0][0],
    }


days_of = {name: [] for name in NAMES}
for day, date in enumerate(inputs["date"]):
    days_of[NAMES[int(date[5:7]) - 1]].append(day)
rows = [month_row(name, days) for name, days in days_of.items() if days]
wettest = max(rows, key=lambda row: row["rain_mm"])
driest = min(rows, key=lambda row: row["rain_mm"])

result = {
    "headline": f"wettest {wettest['month']} {wettest['rain_mm']:.0f} mm,"
    f" driest {driest['month']} {driest['rain_mm']:.0f} mm",
    "rows": rows,
}
print("month  mean C  rain mm  wet days  mostly")
for row in rows:
    print(f"{row['month']:5} {row['mean_c']:7} {row['rain_mm']:8} {row['wet_days']:9}  {row['mostly']}")
