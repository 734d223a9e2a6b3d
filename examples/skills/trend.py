"""The trend of temperature in degrees per decade, with its 95 % confidence interval.

Method: monthly means of the daily mean temperature; ordinary least squares with one free level for each calendar month,
which takes the yearly cycle out of both temperature and time, so that incomplete years bias nothing. The residuals'
lag-1 autocorrelation r shrinks the sample to n (1 - r) / (1 + r), as in Santer et al. (2000), because a warm month
likes to follow a warm one; the interval uses Student's t with the degrees of freedom that are left. Few years give a
wide interval: it says how sure the slope of these years is, not that it goes on.
"""
import math
import statistics

inputs = {
    "date": [
        "2021-01-15", "2021-07-15", "2022-01-15", "2022-07-15", "2023-01-15", "2023-07-15", "2024-01-15", "2024-07-15",
    ],
    "temp_max": [7.0, 25.4, 8.2, 25.0, 7.4, 26.2, 8.6, 26.0],
    "temp_min": [2.0, 14.0, 2.6, 13.6, 2.2, 14.8, 3.0, 14.6],
}
parameters = {"confidence": 0.95}


def monthly_means():
    """[(month counted from year 0, mean temperature)], in the order of time."""
    months = {}
    for date, high, low in zip(inputs["date"], inputs["temp_max"], inputs["temp_min"]):
        months.setdefault(12 * int(date[:4]) + int(date[5:7]) - 1, []).append((high + low) / 2)
    return [(month, statistics.fmean(months[month])) for month in sorted(months)]


def without_yearly_cycle(calendar_months, values):
    """Each value less the mean of its calendar month."""
    groups = {}
    for month, value in zip(calendar_months, values):
        groups.setdefault(month, []).append(value)
    return [value - statistics.fmean(groups[month]) for month, value in zip(calendar_months, values)]


def student_t(probability, freedom):
    """Student's t quantile: the normal one, corrected by Cornish and Fisher's series; good to 0.01 from 4 degrees."""
    z = statistics.NormalDist().inv_cdf(probability)
    return (z + (z**3 + z) / (4 * freedom)
            + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
            + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3))


def correlation_with_next(residuals):
    """The lag-1 autocorrelation; a negative one is taken as none, which is the cautious side."""
    products = math.fsum(a * b for a, b in zip(residuals, residuals[1:]))
    squares = math.fsum(residual * residual for residual in residuals)
    return max(0.0, products / squares) if squares > 0 else 0.0


months = monthly_means()
calendar = [month % 12 for month, _ in months]
decades = without_yearly_cycle(calendar, [month / 120 for month, _ in months])
warmth = without_yearly_cycle(calendar, [mean for _, mean in months])

time_squares = math.fsum(time * time for time in decades)
if time_squares == 0:
    raise ValueError("a trend needs at least one calendar month in two different years")
slope = math.fsum(time * warm for time, warm in zip(decades, warmth)) / time_squares
residuals = [warm - slope * time for time, warm in zip(decades, warmth)]

r = correlation_with_next(residuals)
independent = len(months) * (1 - r) / (1 + r)
freedom = independent - len(dict.fromkeys(calendar)) - 1
if freedom < 4:
    raise ValueError(f"only {freedom:.1f} degrees of freedom are left: a trend with an interval needs more years")
error = math.sqrt(math.fsum(residual * residual for residual in residuals) / freedom / time_squares)
margin = student_t((1 + parameters["confidence"]) / 2, freedom) * error

result = {
    "headline": f"{slope:+.1f} C per decade, {parameters['confidence']:.0%} sure of {slope - margin:+.1f} to"
                f" {slope + margin:+.1f}",
    "c_per_decade": round(slope, 2),
    "interval": [round(slope - margin, 2), round(slope + margin, 2)],
    "confidence": parameters["confidence"],
    "months": len(months),
    "autocorrelation": round(r, 3),
    "degrees_of_freedom": round(freedom, 1),
}
print(result["headline"])
