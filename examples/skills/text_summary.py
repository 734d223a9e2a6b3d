"""A summary of the records in a few sentences, for a reader who has no time for tables."""
import collections
import statistics

inputs = {
    "date": ["2024-01-15", "2024-07-15", "2025-01-15", "2025-07-15"],
    "precipitation": [4.2, 0.0, 11.0, 0.0],
    "temp_max": [6.0, 29.0, 7.0, 31.0],
    "temp_min": [1.0, 15.0, 2.0, 17.0],
    "wind": [3.0, 2.0, 6.5, 2.5],
    "weather": ["rain", "sun", "rain", "sun"],
}


def on(day):
    return inputs["date"][day].replace("/", "-")


def extreme(column, choose):
    """The day with the largest or smallest value of a column, the first of equals, and that value."""
    day = choose(range(len(inputs["date"])), key=lambda day: inputs[column][day])
    return day, inputs[column][day]


days = len(inputs["date"])
hottest, heat = extreme("temp_max", max)
coldest, frost = extreme("temp_min", min)
wettest, rain = extreme("precipitation", max)
windiest, wind = extreme("wind", max)
mean = statistics.fmean((high + low) / 2 for high, low in zip(inputs["temp_max"], inputs["temp_min"]))
kinds = collections.Counter(inputs["weather"]).most_common(2)
seen = " and ".join(f"{kind} on {count / days:.0%}" for kind, count in kinds)

result = {
    "headline": f"{heat:+.1f} C on {on(hottest)}, {frost:+.1f} C on {on(coldest)}",
    "text": (
        f"Over {days} days from {on(0)} to {on(days - 1)} the mean temperature was {mean:.1f} C."
        f" The hottest day was {on(hottest)} with {heat:.1f} C, the coldest night {on(coldest)} with {frost:.1f} C."
        f" Most rain fell on {on(wettest)}: {rain:.1f} mm. The windiest day was {on(windiest)} with {wind:.1f} m/s."
        f" Mostly there was {seen} of the days."
    ),
}
print(result["text"])
