"""How good is the forecast "tomorrow's high is today's", against "tomorrow's high is what is normal for the month"?

Both are judged by their mean absolute error. The skill score is 1 - MAE(today's) / MAE(normal): above 0, looking out of
the window beats looking into the almanac. The normals come from the same records, which favours the almanac a little.
"""
import statistics

inputs = {
    "date": ["2024-06-29", "2024-06-30", "2024-07-01", "2024-07-02", "2024-07-03", "2024-07-04"],
    "temp_max": [21.0, 22.5, 23.0, 28.0, 27.5, 27.0],
}

highs = inputs["temp_max"]
months = [date[5:7] for date in inputs["date"]]
if len(highs) < 2:
    raise ValueError("a forecast for tomorrow needs at least two days")

by_month = {}
for month, high in zip(months, highs):
    by_month.setdefault(month, []).append(high)
normal = {month: statistics.fmean(values) for month, values in by_month.items()}

today = statistics.fmean(abs(tomorrow - high) for high, tomorrow in zip(highs, highs[1:]))
almanac = statistics.fmean(abs(high - normal[month]) for month, high in zip(months[1:], highs[1:]))
score = 1 - today / almanac if almanac else 0.0

result = {
    "headline": f"today's high is off by {today:.1f} C, the normal by {almanac:.1f}",
    "today_mae_c": round(today, 2),
    "normal_mae_c": round(almanac, 2),
    "skill_score": round(score, 3),
}
print(result["headline"])
