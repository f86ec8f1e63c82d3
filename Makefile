# weir. `make help` lists the targets. Everything that is built lands in build/.

PREFIX     ?= /usr/local
BUILD      := build
CC         ?= cc
CLANG      ?= clang
BPFTOOL    ?= $(shell command -v bpftool || echo /usr/sbin/bpftool)
CFLAGS     ?= -O2 -g
V          ?= 0
Q          := $(if $(filter 1,$(V)),,@)
say         = $(if $(filter 1,$(V)),,@printf '  %-8s %s\n' '$(1)' '$(2)';)

VERSION    := 0.1.0
WARN       := -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion -Wvla -Wformat=2 -Wstrict-prototypes -Wmissing-prototypes
CPPFLAGS   += -Iinclude -Isrc -I$(BUILD)/gen -D_GNU_SOURCE -DWEIR_VERSION='"$(VERSION)"'
# Hidden: a function of ours must not stand in for one of the same name inside a library (json_null, in jansson and here).
ALL_CFLAGS := -std=c17 $(WARN) -fvisibility=hidden -MMD -MP $(CFLAGS)
LDLIBS     += -lbpf -lelf -lz -lbrotlidec -lzstd -lnghttp2 -ljansson -lsystemd -lcap-ng -lseccomp -linih -lsqlite3 -lm -lpthread
HARDEN     := -fstack-protector-strong -D_FORTIFY_SOURCE=2 -fPIE
LDHARDEN   := -pie -Wl,-z,relro,-z,now

ARCH       := $(shell uname -m | sed 's/x86_64/x86/;s/aarch64/arm64/')
# The UAPI headers of a multiarch Debian live below the triplet, which clang -target bpf does not search.
TRIPLET    := $(shell $(CC) -print-multiarch 2>/dev/null)
BPF_CFLAGS := -g -O2 -target bpf -mcpu=v3 -D__TARGET_ARCH_$(ARCH) -Iinclude -Ibpf $(if $(TRIPLET),-idirafter /usr/include/$(TRIPLET)) \
              -Wall -Wextra -Werror -Wno-unused-parameter -Wno-missing-declarations -Wno-compare-distinct-pointer-types

BPF_STEMS  := $(patsubst bpf/%.bpf.c,%,$(wildcard bpf/*.bpf.c))
SKELS      := $(BPF_STEMS:%=$(BUILD)/gen/%.skel.h)
SRCS       := $(wildcard src/*/*.c)
LIB_SRCS   := $(filter-out src/cmd/main.c,$(SRCS))
OBJS       := $(SRCS:%.c=$(BUILD)/%.o)
LIB_OBJS   := $(LIB_SRCS:%.c=$(BUILD)/%.o)
TOOLS      := $(patsubst tools/%.c,$(BUILD)/%,$(wildcard tools/*.c))
UNIT       := $(patsubst tests/unit/%.c,$(BUILD)/unit/%,$(wildcard tests/unit/test_*.c))
BPFTEST    := $(patsubst tests/bpf/%.c,$(BUILD)/bpftest/%,$(wildcard tests/bpf/test_*.c))
FUZZ       := $(patsubst tests/fuzz/%.c,$(BUILD)/fuzz/%,$(wildcard tests/fuzz/fuzz_*.c))
ASAN       := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
ASAN_OBJS  := $(LIB_SRCS:%.c=$(BUILD)/asan/%.o)

.DELETE_ON_ERROR:
.SECONDARY:
.PHONY: all help clean tools test-kernels unit lint test deps check-layers fuzz-build install uninstall

all: $(BUILD)/weir tools ## build/weir and the tools beside it

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

clean: ## remove build/
	rm -rf $(BUILD)

tools: $(TOOLS)

# ---- BPF ------------------------------------------------------------------------------------------
$(BUILD)/bpf/%.bpf.o: bpf/%.bpf.c Makefile
	@mkdir -p $(@D)
	$(call say,BPF,$<)$(CLANG) $(BPF_CFLAGS) -MMD -MP -MF $(@:.o=.d) -c $< -o $@

$(BUILD)/gen/%.skel.h: $(BUILD)/bpf/%.bpf.o
	@mkdir -p $(@D)
	$(call say,SKEL,$@)$(BPFTOOL) gen skeleton $< name $*_bpf > $@

# ---- the program ----------------------------------------------------------------------------------
$(BUILD)/src/%.o: src/%.c Makefile | $(SKELS)
	@mkdir -p $(@D)
	$(call say,CC,$<)$(CC) $(CPPFLAGS) $(ALL_CFLAGS) $(HARDEN) -c $< -o $@

$(BUILD)/weir: $(OBJS)
	$(call say,LINK,$@)$(CC) $(CFLAGS) $(LDHARDEN) $(LDFLAGS) $^ -o $@ $(LDLIBS)

$(BUILD)/%: tools/%.c Makefile
	@mkdir -p $(@D)
	$(call say,TOOL,$@)$(CC) $(CPPFLAGS) $(ALL_CFLAGS) $(HARDEN) $(LDHARDEN) -MF $@.d $< -o $@ $(TOOL_LIBS)

TOOL_LIBS  := -lmicrohttpd -lm -lpthread

# ---- tests ----------------------------------------------------------------------------------------
$(BUILD)/asan/src/%.o: src/%.c Makefile | $(SKELS)
	@mkdir -p $(@D)
	$(call say,ASAN,$<)$(CC) $(CPPFLAGS) $(ALL_CFLAGS) $(ASAN) -c $< -o $@

$(BUILD)/asan/libweir.a: $(ASAN_OBJS)
	@rm -f $@
	$(call say,AR,$@)ar rcs $@ $^

$(BUILD)/unit/%: tests/unit/%.c $(BUILD)/asan/libweir.a Makefile
	@mkdir -p $(@D)
	$(call say,UNIT,$@)$(CC) $(CPPFLAGS) -Itests $(ALL_CFLAGS) $(ASAN) -MF $@.d $< $(BUILD)/asan/libweir.a -o $@ -lcmocka -lbrotlienc $(LDLIBS)

$(BUILD)/bpftest/%: tests/bpf/%.c $(LIB_OBJS) Makefile
	@mkdir -p $(@D)
	$(call say,BPFTEST,$@)$(CC) $(CPPFLAGS) -Itests $(ALL_CFLAGS) -MF $@.d $< $(LIB_OBJS) -o $@ -lcmocka $(LDLIBS)

# libFuzzer: the whole library is compiled again with coverage, by clang.
FUZZ_FLAGS := -O1 -g -fvisibility=hidden -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined
$(BUILD)/fuzz/src/%.o: src/%.c Makefile | $(SKELS)
	@mkdir -p $(@D)
	$(call say,FUZZCC,$<)$(CLANG) $(CPPFLAGS) -std=c17 -MMD -MP $(FUZZ_FLAGS) -c $< -o $@

$(BUILD)/fuzz/libweir.a: $(LIB_SRCS:%.c=$(BUILD)/fuzz/%.o)
	@rm -f $@
	$(call say,AR,$@)ar rcs $@ $^

$(BUILD)/fuzz/%: tests/fuzz/%.c $(BUILD)/fuzz/libweir.a
	@mkdir -p $(@D)
	$(call say,FUZZ,$@)$(CLANG) $(CPPFLAGS) -Itests -std=c17 -MMD -MP -MF $@.d $(FUZZ_FLAGS) -fsanitize=fuzzer $< $(BUILD)/fuzz/libweir.a -o $@ $(LDLIBS)

unit: $(UNIT) ## unit tests (ASan, UBSan; no root)
	@tests/run unit

fuzz-build: $(FUZZ)

lint: ## layers, banned functions, headers, both compilers, man pages
	@tests/run lint

check-layers:
	@tests/lint/layers.sh

test: deps ## the whole suite, from a fresh clone; as root, or what can run without
	@$(MAKE) --no-print-directory $(if $(findstring -j,$(MAKEFLAGS)),,-j$(shell nproc)) all $(UNIT) $(BPFTEST) $(FUZZ) $(E2E_BIN)
	@tests/run all

# Programs that the end-to-end suites run, linked with the product's own objects.
E2E_BIN    := $(patsubst tests/e2e/%.c,$(BUILD)/e2e/%,$(filter-out %.bpf.c,$(wildcard tests/e2e/*.c)))
$(BUILD)/e2e/%: tests/e2e/%.c $(LIB_OBJS) Makefile
	@mkdir -p $(@D)
	$(call say,E2E,$@)$(CC) $(CPPFLAGS) -Itests $(ALL_CFLAGS) -MF $@.d $< $(LIB_OBJS) -o $@ $(LDLIBS)

$(BUILD)/e2e/gnutls_server: LDLIBS += -lmicrohttpd

# ---- what Debian must provide ----------------------------------------------------------------------
DEPS_BUILD := gcc clang libclang-rt-14-dev make bpftool libbpf-dev libelf-dev zlib1g-dev libbrotli-dev libzstd-dev libnghttp2-dev libpcap-dev libjansson-dev libsystemd-dev libcap-ng-dev libseccomp-dev \
              libinih-dev libsqlite3-dev libmicrohttpd-dev libcmocka-dev linux-libc-dev
DEPS_TEST  := git python3 python3-venv curl jq openssl iproute2 procps systemd nginx wrk ethtool libpcap0.8 tcpdump haproxy caddy nghttp2-client

deps: ## install the Debian packages that are missing (as root)
	@missing=; for p in $(DEPS_BUILD) $(DEPS_TEST); do \
		dpkg-query -W -f '$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$p"; \
	done; \
	[ -z "$$missing" ] && exit 0; \
	if [ "$$(id -u)" -ne 0 ]; then echo "missing packages:$$missing (as root: make deps)" >&2; exit 0; fi; \
	echo "  APT     $$missing"; \
	export DEBIAN_FRONTEND=noninteractive; \
	{ apt-get -qq update && apt-get -qq -y --no-install-recommends install $$missing; } >$(DEPS_LOG) 2>&1 || \
		{ tail -n 5 $(DEPS_LOG) >&2; echo "cannot install$$missing; the whole output is in $(DEPS_LOG)" >&2; exit 1; }
DEPS_LOG   := $(or $(TMPDIR),/tmp)/weir-deps.log

# ---- install --------------------------------------------------------------------------------------
BINDIR     := $(PREFIX)/bin
MANDIR     := $(PREFIX)/share/man/man1
DOCDIR     := $(PREFIX)/share/doc/weir
UNITDIR    := $(if $(filter /usr,$(PREFIX)),/lib/systemd/system,$(PREFIX)/lib/systemd/system)
CATALOGDIR := /usr/lib/systemd/catalog
MAN        := $(wildcard man/*.1)
DOCS       := README.md CHANGELOG.md $(wildcard docs/*.md)

install: $(BUILD)/weir ## binary, man pages, journal catalog, unit, docs (PREFIX=, DESTDIR=)
	install -D -m 0755 $(BUILD)/weir $(DESTDIR)$(BINDIR)/weir
	install -d $(DESTDIR)$(MANDIR) $(DESTDIR)$(DOCDIR)
	install -m 0644 $(MAN) $(DESTDIR)$(MANDIR)
	install -m 0644 $(DOCS) $(DESTDIR)$(DOCDIR)
	install -D -m 0644 deploy/journal/weir.catalog $(DESTDIR)$(CATALOGDIR)/weir.catalog
	install -d $(DESTDIR)$(UNITDIR)
	sed 's|@BINDIR@|$(BINDIR)|' deploy/systemd/weir.service > $(DESTDIR)$(UNITDIR)/weir.service
	chmod 0644 $(DESTDIR)$(UNITDIR)/weir.service
	@[ -n "$(DESTDIR)" ] || echo "then: journalctl --update-catalog; systemctl daemon-reload; systemctl enable --now weir"

uninstall: ## the reverse of install
	rm -f $(DESTDIR)$(BINDIR)/weir $(DESTDIR)$(CATALOGDIR)/weir.catalog $(DESTDIR)$(UNITDIR)/weir.service
	rm -f $(addprefix $(DESTDIR)$(MANDIR)/,$(notdir $(MAN))) $(addprefix $(DESTDIR)$(DOCDIR)/,$(notdir $(DOCS)))
	-rmdir --ignore-fail-on-non-empty $(DESTDIR)$(DOCDIR)

# Programs for the guests of tests/vm; KERNELS="5.10 6.1" narrows the matrix.
KERNELS    ?= 5.10 6.1 6.12 7.2
VM_PROGS   := $(patsubst tests/vm/%.c,$(BUILD)/vm/%,$(wildcard tests/vm/*.c))

$(BUILD)/vm/%: tests/vm/%.c $(LIB_OBJS) Makefile
	@mkdir -p $(@D)
	$(call say,VM,$@)$(CC) $(CPPFLAGS) -Itests $(ALL_CFLAGS) -MF $@.d $< $(LIB_OBJS) -o $@ $(LDLIBS)

test-kernels: $(BUILD)/weir tools $(VM_PROGS) $(BPFTEST) ## the agent in guest kernels (opt-in: fetches Debian's kernels, needs qemu)
	@BUILD=$(abspath $(BUILD)) tests/vm/run $(KERNELS)

# ---- to look at -----------------------------------------------------------------------------------
.PHONY: demo chaos run bench test-servers
demo: deps ## a model server, a flood and a cost spike, caught before your eyes in 80 s (as root)
	@$(MAKE) --no-print-directory all
	@tools/demo.sh

chaos: deps ## a model server made slow, then made to fail, under a live agent: what was found, and after how many seconds (as root; 8 min)
	@$(MAKE) --no-print-directory all
	@tools/chaos.sh

run: deps ## attach to whatever model server is running (PORT=8000, or found by itself; as root)
	@$(MAKE) --no-print-directory $(BUILD)/weir
	@$(BUILD)/weir run $(if $(PORT),--port $(PORT),--auto) $(ARGS)

bench: deps ## the design's budget table, measured here (as root; ten minutes; BENCH="kernel rss" for some rows)
	@$(MAKE) --no-print-directory all $(BUILD)/bpftest/bench_meter $(BUILD)/bpftest/bench_tls
	@tools/bench.sh $(BENCH)

.PHONY: accuracy
accuracy: all ## docs/accuracy.md: weir and the baselines on the lab's test seeds (half an hour once; cached; WEIR=path judges another build)
	@python3 tools/accuracy/run.py --weir $(or $(WEIR),$(BUILD)/weir) --lab $(BUILD)/weir-lab --cache $(BUILD)/accuracy --out docs/accuracy.md $(ARGS)

.PHONY: ablation
ablation: all ## the table in docs/detection.md: what each part of the engine is worth, by leaving it out (test seeds; some ten minutes; cached)
	@python3 tools/accuracy/ablation.py --weir $(or $(WEIR),$(BUILD)/weir) --lab $(BUILD)/weir-lab --cache $(BUILD)/accuracy --out docs/detection.md $(ARGS)

.PHONY: prompts-table
$(BUILD)/prompts-table: tools/prompts/table.c $(LIB_OBJS) Makefile
	$(call say,TOOL,$@)$(CC) $(CPPFLAGS) $(ALL_CFLAGS) -MF $@.d $< $(LIB_OBJS) -o $@ $(LDLIBS)

prompts-table: $(BUILD)/prompts-table ## the tables of docs/prompt-features.md: recall, mistakes, distances, cost
	@$< docs/prompt-features.md tests/fixtures/prompts/tuning.tsv tests/fixtures/prompts/heldout.tsv

.PHONY: nab
nab: all ## docs/nab.md: weir eval --series on the Numenta Anomaly Benchmark (its data: WEIR_DATA=FOLDER, FOLDER/nab)
	@tools/nab/run.sh || [ $$? -eq 77 ]

.PHONY: lab-streams
lab-streams: $(BUILD)/weir-lab ## the traffic lab's standard streams into build/lab (SET=tune or test; 3 GB)
	@tools/lab/streams.sh $(BUILD)/lab $(or $(SET),tune)

.PHONY: test-tls-cycles
test-tls-cycles: all $(E2E_BIN) ## 10,000 times: probes onto a busy TLS server and off again (as root; opt-in; takes long)
	@WEIR_TLS_CYCLES=10000 WEIR_E2E_CASE=cycles WEIR_TEST_LIMIT_S=40000 tests/run tests/e2e/tls.sh

test-servers: all ## end to end against every real server; installs those that are missing into the cache (opt-in; takes long)
	@WEIR_LLAMA_INSTALL=1 WEIR_TEST_SERVERS=install WEIR_TEST_LIMIT_S=$(or $(WEIR_TEST_LIMIT_S),4000) \
		tests/run $(addprefix tests/e2e/,llama.sh uvicorn.sh nginx.sh litellm.sh vllm.sh ollama.sh)

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
