"""Never ends: waits for a day colder than any in the records."""
inputs = {"temp_min": [1.0]}

day = 0
while inputs["temp_min"][day] > -100:
    day = (day + 1) % len(inputs["temp_min"])

result = {"headline": f"day {day}"}
