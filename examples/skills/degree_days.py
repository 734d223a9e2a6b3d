"""Heating and cooling degree days per calendar year.

A day whose mean temperature is d degrees below the base adds d heating degree days, above it d cooling
degree days; the mean of a day is half way between its maximum and its minimum, as NOAA counts. Energy for
heating and cooling a building is roughly proportional to them.
"""
import math

inputs = {
    "date": ["2024-01-15", "2024-07-15", "2025-01-15", "2025-07-15"],
    "temp_max": [4.0, 29.0, 6.0, 31.0],
    "temp_min": [-2.0, 15.0, 1.0, 17.0],
}
parameters = {"base_c": 18.3}


def degree_days(year, base):
    means = [(high + low) / 2
             for date, high, low in zip(inputs["date"], inputs["temp_max"], inputs["temp_min"])
             if date[:4] == year]
    return {
        "year": int(year),
        "days": len(means),
        "heating": round(math.fsum(max(0.0, base - mean) for mean in means), 1),
        "cooling": round(math.fsum(max(0.0, mean - base) for mean in means), 1),
    }


years = list(dict.fromkeys(date[:4] for date in inputs["date"]))
per_year = [degree_days(year, parameters["base_c"]) for year in years]
coldest = max(per_year, key=lambda row: row["heating"])
hottest = max(per_year, key=lambda row: row["cooling"])

result = {
    "headline": f"heating {coldest['heating']:.0f} in {coldest['year']}, cooling {hottest['cooling']:.0f}"
                f" in {hottest['year']} at most",
    "base_c": parameters["base_c"],
    "years": per_year,
}
print(result["headline"])
