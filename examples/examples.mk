# The same story in three languages, and what keeps it the same. `make demo DATABASE=skills.db` keeps the skills.

DATABASE ?=
DEMO_CFLAGS = -std=c99 -O2 -Wall -Wextra -Wpedantic -Werror
DEMO_LINK = -I$(PREFIX_DIR)/include -L$(PREFIX_DIR)/lib -lskillcache -Wl,-rpath,$(PREFIX_DIR)/lib
DEMO_PYTHON = PYTHONPATH=bindings/python SKILLCACHE_LIBRARY=$(PREFIX_DIR)/lib/libskillcache.so $(PYTHON)

.PHONY: demo-c demo-python demo-rust test-examples

$(BUILD)/examples/weather: examples/weather.c include/skillcache.h | prefix
	@mkdir -p $(@D)
	$(CC) $(DEMO_CFLAGS) examples/weather.c $(DEMO_LINK) -o $@

demo-c: $(BUILD)/examples/weather | prefix
	$(BUILD)/examples/weather examples $(DATABASE)

demo-python: | prefix
	$(DEMO_PYTHON) examples/weather.py $(DATABASE)

demo-rust: | prefix
	$(CARGO) run --release --locked --quiet --example weather -- examples $(DATABASE)

test-examples: $(BUILD)/examples/weather | prefix
	PKG_CONFIG_PATH=$(PREFIX_DIR)/lib/pkgconfig; export PKG_CONFIG_PATH; \
	$(CC) -std=c99 -Wall -Wextra -Wpedantic -Werror examples/quickstart.c $$(pkg-config --cflags --libs skillcache) \
		-Wl,-rpath,$(PREFIX_DIR)/lib -o $(BUILD)/examples/quickstart
	$(CARGO) build --release --locked --quiet --example weather
	$(DEMO_PYTHON) examples/compare.py $(BUILD)/examples/weather $(RELEASE)/examples/weather $(BUILD)/examples/quickstart
