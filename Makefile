# Every target installs what it needs first. `make demo` and `make test` are all a newcomer has to know.
.PHONY: install demo test check bench city soak serve develop newcomer

install:
	@scripts/install runtime

develop:
	@scripts/install develop

demo: install
	@.venv/bin/masking demo $(if $(ONCE),--once)

test: develop
	@scripts/peers
	@scripts/test $(ARGS)

check: develop
	@scripts/check

bench:
	@scripts/install bench
	@scripts/peers bench
	@.venv/bin/python -m loadtests.bench $(ARGS)

city:
	@scripts/install bench
	@.venv/bin/python -m loadtests.city $(ARGS)

soak: develop
	@scripts/peers
	@scripts/install fuzz
	@.venv/bin/python -m loadtests.soak $(ARGS)

serve: install
	@.venv/bin/masking serve $(if $(CONFIG),--config $(CONFIG))

newcomer:
	@scripts/newcomer $(ARGS)
