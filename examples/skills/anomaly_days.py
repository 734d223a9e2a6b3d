"""Days far too warm or too cold for their time of the year.

A day's mean temperature is compared with all years' days at most 15 calendar days away: its robust z-score is the
distance from their median, in units of 1.4826 times their median absolute deviation, which is one standard
deviation where the weather is normally distributed and, unlike it, is not moved by the anomalies themselves.
"""
import statistics

inputs = {
    "date": ["2024-07-01", "2024-07-02", "2024-07-03", "2024-07-04", "2024-07-05", "2024-07-06"],
    "temp_max": [24.0, 25.0, 26.0, 24.5, 38.0, 25.5],
    "temp_min": [14.0, 13.0, 15.0, 14.5, 21.0, 13.5],
}
parameters = {"half_window_days": 15, "threshold": 3.0, "listed": 5}

DAYS_BEFORE = [0, 31, 60, 91, 121, 152, 182, 213, 244, 274, 305, 335]  # in a leap year, so that 29 February has a place
YEAR = 366


def day_of_year(date):
    return DAYS_BEFORE[int(date[5:7]) - 1] + int(date[8:10]) - 1


def climate(days_of_year, values):
    """For each day of the year the median and the scaled median absolute deviation around it."""
    by_day = [[] for _ in range(YEAR)]
    for day, value in zip(days_of_year, values):
        by_day[day].append(value)
    reach = range(-parameters["half_window_days"], parameters["half_window_days"] + 1)
    normals = []
    for day in range(YEAR):
        nearby = [value for offset in reach for value in by_day[(day + offset) % YEAR]]
        middle = statistics.median(nearby) if nearby else 0.0
        spread = 1.4826 * statistics.median(abs(value - middle) for value in nearby) if nearby else 0.0
        normals.append((middle, spread))
    return normals


means = [(high + low) / 2 for high, low in zip(inputs["temp_max"], inputs["temp_min"])]
days_of_year = [day_of_year(date) for date in inputs["date"]]
normals = climate(days_of_year, means)

anomalies = []
for date, day, mean in zip(inputs["date"], days_of_year, means):
    middle, spread = normals[day]
    score = (mean - middle) / spread if spread > 0 else 0.0
    if abs(score) >= parameters["threshold"]:
        anomalies.append({
            "date": date.replace("/", "-"),
            "mean_c": round(mean, 1),
            "normal_c": round(middle, 1),
            "z": round(score, 2),
        })
anomalies.sort(key=lambda row: (-abs(row["z"]), row["date"]))
warm = sum(row["z"] > 0 for row in anomalies)
extreme = f", most extreme {anomalies[0]['date']}: {anomalies[0]['z']:+.1f}" if anomalies else ""

result = {
    "headline": f"{warm} warm, {len(anomalies) - warm} cold{extreme}",
    "warm": warm,
    "cold": len(anomalies) - warm,
    "most_extreme": anomalies[:parameters["listed"]],
}
print(result["headline"])
