"""Fails on purpose: it looks for a column that the records do not have."""
inputs = {"date": ["2024-01-15"], "temp_max": [6.0], "temp_min": [1.0]}


def dew_point(day):
    humidity = inputs["humidity"][day]
    return inputs["temp_min"][day] - (100 - humidity) / 5


def mean_dew_point():
    return sum(dew_point(day) for day in range(len(inputs["date"]))) / len(inputs["date"])


result = {"headline": f"dew point {mean_dew_point():.1f} C"}
