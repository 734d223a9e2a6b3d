# The same story in three languages, and what keeps it the same. `make demo DATABASE=skills.db` keeps the skills. And the picture of a library:
# `make report LIBRARY=skills.db STATS=stats.json OUT=report.html`; without a library, of a sample.

DATABASE ?=
LIBRARY ?=
STATS ?=
OUT ?= $(BUILD)/report.html
DEMO_CFLAGS = -std=c99 -O2 -Wall -Wextra -Wpedantic -Werror
DEMO_LINK = -I$(PREFIX_DIR)/include -L$(PREFIX_DIR)/lib -lskillcache -Wl,-rpath,$(PREFIX_DIR)/lib
DEMO_PYTHON = PYTHONPATH=bindings/python SKILLCACHE_LIBRARY=$(PREFIX_DIR)/lib/libskillcache.so $(PYTHON)

.PHONY: demo-c demo-python demo-rust report test-examples test-report

$(BUILD)/examples/weather: examples/weather.c include/skillcache.h | prefix
	@mkdir -p $(@D)
	$(CC) $(DEMO_CFLAGS) examples/weather.c $(DEMO_LINK) -o $@

demo-c: $(BUILD)/examples/weather | prefix
	$(BUILD)/examples/weather examples $(DATABASE)

demo-python: | prefix
	$(DEMO_PYTHON) examples/weather.py $(DATABASE)

demo-rust: | prefix
	$(CARGO) run --release --locked --quiet --example weather -- examples $(DATABASE)

report:
	@mkdir -p $(BUILD)
	$(CARGO) run --release --locked --quiet --example report -- $(if $(LIBRARY),"$(LIBRARY)") $(if $(STATS),--stats "$(STATS)") --out "$(OUT)"

test-examples: test-report $(BUILD)/examples/weather | prefix
	PKG_CONFIG_PATH=$(PREFIX_DIR)/lib/pkgconfig; export PKG_CONFIG_PATH; \
	$(CC) -std=c99 -Wall -Wextra -Wpedantic -Werror examples/quickstart.c $$(pkg-config --cflags --libs skillcache) \
		-Wl,-rpath,$(PREFIX_DIR)/lib -o $(BUILD)/examples/quickstart
	$(CARGO) build --release --locked --quiet --example weather
	$(DEMO_PYTHON) examples/compare.py $(BUILD)/examples/weather $(RELEASE)/examples/weather $(BUILD)/examples/quickstart

test-report: | prefix
	$(CARGO) build --release --locked --quiet --example report
	PYTHONPATH=bindings/python SKILLCACHE_LIBRARY=$(PREFIX_DIR)/lib/libskillcache.so SKC_REPORT=$(RELEASE)/examples/report \
		$(VENV)/python -m pytest -q -p no:cacheprovider examples/test_report.py
