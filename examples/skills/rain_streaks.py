"""The longest wet and the longest dry spell, with their first and last day.

A day is wet from 1 mm on, the threshold of the WMO's climate indices. Days must be in order; a day that is
missing from the records ends a spell, because nobody knows what fell on it.
"""
inputs = {
    "date": ["2024-11-01", "2024-11-02", "2024-11-03", "2024-11-04", "2024-11-05"],
    "precipitation": [5.1, 12.0, 1.0, 0.0, 0.3],
}
parameters = {"wet_mm": 1.0}


def day_number(date):
    """Counts days; a year begins in March here, so that a leap day is the last of its year."""
    year, month, day = int(date[:4]), int(date[5:7]), int(date[8:10])
    year, month = (year, month - 3) if month > 2 else (year - 1, month + 9)
    return 365 * year + year // 4 - year // 100 + year // 400 + (153 * month + 2) // 5 + day


def spells(dates, wet_days):
    """Splits the days into runs of equal weather: [wet, first date, last date, days]."""
    runs = []
    yesterday = None
    for date, wet in zip(dates, wet_days):
        today = day_number(date)
        if runs and runs[-1][0] == wet and today == yesterday + 1:
            runs[-1][2] = date
            runs[-1][3] += 1
        else:
            runs.append([wet, date, date, 1])
        yesterday = today
    return runs


def longest(runs, wet):
    """The longest run of one kind, the first of equals; None where that kind never occurs."""
    _, first, last, days = max((run for run in runs if run[0] == wet), key=lambda run: run[3],
                               default=(wet, "", "", 0))
    return {"days": days, "from": first.replace("/", "-"), "to": last.replace("/", "-")}


runs = spells(inputs["date"], [rain >= parameters["wet_mm"] for rain in inputs["precipitation"]])
wet, dry = longest(runs, True), longest(runs, False)

result = {
    "headline": f"wet {wet['days']} days from {wet['from']}, dry {dry['days']} from {dry['from']}",
    "wet": wet,
    "dry": dry,
}
print(result["headline"])
