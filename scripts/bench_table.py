#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Medians of the runs in results/, as Markdown, and as columns for the charts.

bench_table.py               prints the tables, writes results/*.dat
bench_table.py --mode NAME   prints the mode in which this engine ran mostly, if it has any
"""
import json
import math
import pathlib
import statistics
import sys
from collections import Counter, defaultdict

RESULTS = pathlib.Path(__file__).resolve().parent.parent / 'results'
COLLECT, RESPOND = 'collect', 'respond'
SCENARIOS = {
    'stream': 'one sender, one receiver',
    'lone': 'stream --segments 1: no trains',
    'distinct': 'stream --distinct-sizes: no two neighbours of one size',
    'in-place': 'stream --in-place (the library; the others as in stream)',
    'idle': 'stream --idle-sockets 10000: the library beside 10,000 silent sockets (the others as '
            'in stream)',
    'device': 'send to a device whose queue drops everything: what is sent, and what it costs',
    'device-in-place': 'the same with --in-place (the library)',
    'device-zero-copy': 'the same with --zero-copy (uring)',
    'fanout': 'one sender, 64 receivers, interleaved one by one',
    'ping': 'round trips, one at a time',
    'asleep': 'ping --busy-poll 0: nobody spins',
    'spin': 'ping --busy-poll 1000 on both sides',
    'flood': 'ping --flood 4096: each request behind so many datagrams to another socket',
    'requests': 'ping --window 64 of one client (io_uring) against each server',
    'requests-asleep': 'the same with --busy-poll 0',
}
MODERATE = {
    COLLECT: 'lone datagrams from 8 plain sockets at random times (Poisson arrivals); libuv and '
             'asio in the cheaper of their two ways to receive',
    RESPOND: "a DNS server under dnsperf's 100 clients",
}
ROUND_TRIPS = ['ping', 'asleep', 'spin', 'flood']
BASE, RAW = 'libuv', ['raw-mmsg', 'raw-gso']
PLACES = {'': 'Over loopback', 'veth-': 'Between two network namespaces (veth)'}


def read(path):
    """A file's runs; what is known of round trips is theirs."""
    for line in path.read_text().splitlines() if path.exists() else []:
        run = json.loads(line)
        delays = {f'delay_{key}': value for key, value in (run.get('delay_ns') or {}).items()}
        yield {**run, **(run.get('rtt_ns') or {}), **delays}


def runs(place):
    """(scenario, size) -> engine -> list of runs, in the order in which they ran."""
    table = defaultdict(lambda: defaultdict(list))
    for path in RESULTS.glob('*-*.json'):
        name = path.stem.rpartition('-')[0]
        name = 'veth-stream' if name == 'veth' else name
        if name.removeprefix('veth-') in (COLLECT, RESPOND):
            continue
        if name.startswith('veth-') == bool(place):
            scenario = name[len(place):]
            for run in read(path):
                engine = run['server_engine'] if 'requests' in scenario else run['engine']
                table[scenario, run['size']][engine].append(run)
    order = list(SCENARIOS)
    return dict(sorted(table.items(), key=lambda item: (order.index(item[0][0]), item[0][1])))


def median(items, key):
    values = [run[key] for run in items if run.get(key) is not None]
    return statistics.median(values) if values else None


def number(value, decimals=0):
    return '-' if value is None else f'{value:,.{decimals}f}'


def ratio(items, others, key):
    """The median of the ratios of each round."""
    theirs = {run['round']: run[key] for run in others if run.get(key)}
    ratios = [run[key] / theirs[run['round']] for run in items
              if run.get(key) is not None and run['round'] in theirs]
    middle = statistics.median(ratios) if ratios else None
    return number(middle, 3 if middle and middle < 0.1 else 2)


def ratios(engines, items, key, best):
    """To libuv, and to the better of the raw engines."""
    known = [engines[name] for name in RAW if median(engines.get(name, []), key)]
    raw = best(known, key=lambda others: median(others, key), default=[])
    return [ratio(items, others, key) for others in (engines.get(BASE, []), raw)]


def loss(items):
    lost, sent = sum(run['lost'] or 0 for run in items), sum(run['sent'] for run in items)
    if items[0]['lost'] is None:
        return '-'
    return '0' if not lost else f'{100 * lost / max(sent, 1):.3g} %'


def spread(items, key):
    values = [run[key] for run in items]
    middle = statistics.median(values)
    return f'{100 * (max(values) - min(values)) / 2 / middle:.0f} %' if middle else '-'


def markdown(heading, rows):
    """Words to the left, numbers to the right."""
    widths = [max(len(row[i]) for row in [heading, *rows]) for i in range(len(heading))]
    words = [all(row[i][:1].isalpha() for row in rows) for i in range(len(heading))]

    def text(row):
        cells = [cell.ljust(width) if left else cell.rjust(width)
                 for cell, width, left in zip(row, widths, words)]
        return '| ' + ' | '.join(cells) + ' |'

    rule = ['-' * width if left else '-' * (width - 1) + ':' for width, left in zip(widths, words)]
    return '\n'.join([text(heading), text(rule), *map(text, rows)])


# ---- Moderate rates --------------------------------------------------------------------------

def by_number(name):
    """The number in the file's name -> label -> runs; of an engine's modes the one that costs the
    receiver least."""
    table = {}
    for path in RESULTS.glob(f'{name}-*.json'):
        modes = defaultdict(lambda: defaultdict(list))
        for run in read(path):
            label = run['engine'] + ('-1ms' if run.get('max_delay_us') else '')
            modes[label][run.get('mode')].append(run)
        table[int(path.stem.rpartition('-')[2])] = {
            label: min(ways.values(), key=lambda items: median(items, 'recv_cpu_ns') or math.inf)
            for label, ways in modes.items()}
    # As many as are answered, 0, is the most.
    return dict(sorted(table.items(), key=lambda item: item[0] or math.inf))


def label_text(label):
    return label.replace('-1ms', ', up to 1 ms')


def labels_of(table):
    return list(dict.fromkeys(label for engines in table.values() for label in engines))


def cost_cell(engines, label, key='recv_cpu_ns'):
    """CPU, in brackets times libuv's, and what was lost."""
    items = engines.get(label, [])
    if median(items, key) is None:
        return '-'
    text = number(median(items, key))
    if label != BASE and engines.get(BASE):
        text += f' ({ratio(items, engines[BASE], key)})'
    return text + ('' if loss(items) == '0' else f', lost {loss(items)}')


def delay_cell(items):
    if median(items, 'delay_p50') is None:
        return '-'
    return ' / '.join(number(median(items, key) / 1000, 0) for key in ('delay_p50', 'delay_p99'))


def collect_tables(place):
    table = by_number(place + COLLECT)
    if not table:
        return []
    heading = [f'{rate:,}/s' for rate in table]
    return [
        markdown(['CPU of the receiver, ns a datagram', *heading],
                 [[label_text(label), *(cost_cell(engines, label) for engines in table.values())]
                  for label in labels_of(table)]),
        markdown(['delay, µs, p50 / p99', *heading],
                 [[label_text(label), *(delay_cell(engines.get(label, []))
                                        for engines in table.values())]
                  for label in labels_of(table)])]


def respond_table(place):
    table = by_number(place + RESPOND)
    if not table:
        return []
    heading = [f'{queries:,}/s' if queries else 'unlimited' for queries in table]
    rows = [[label_text(label), *(cost_cell(engines, label) for engines in table.values()),
             *(number(median(engines.get(label, []), 'answered')) for engines in table.values())]
            for label in labels_of(table)]
    return [markdown(['DNS server: CPU ns a query at', *heading,
                      *(f'answered/s, {text}' for text in heading)], rows)]


def write_collected(place):
    write_columns(place + COLLECT, 'rate', [
        (rate, {label: median(items, 'recv_cpu_ns') for label, items in engines.items()})
        for rate, engines in by_number(place + COLLECT).items()])


# ---- Rates and round trips -------------------------------------------------------------------

def rate_table(table):
    rows = []
    for (scenario, size), engines in table.items():
        if scenario in ROUND_TRIPS:
            continue
        seen = 'send_pps' if scenario.startswith('device') else 'recv_pps'
        for engine, items in engines.items():
            rows.append([
                engine, scenario, str(size), number(median(items, seen)), spread(items, seen),
                *ratios(engines, items, seen, max), loss(items),
                number(median(items, 'send_cpu_ns'), 1), number(median(items, 'recv_cpu_ns'), 1)])
    heading = ['engine', 'scenario', 'bytes', 'received/s', '±', f'/ {BASE}', '/ raw', 'lost',
               'CPU ns sent', 'CPU ns received']
    return markdown(heading, rows) if rows else ''


def ping_table(table):
    rows = []
    for (scenario, size), engines in table.items():
        for engine, items in engines.items():
            if scenario in ROUND_TRIPS and median(items, 'p50'):
                times = [number(median(items, key) / 1000, 1)
                         for key in ('min', 'p50', 'p99', 'p999')]
                rows.append([engine, scenario, str(size), *times,
                             *ratios(engines, items, 'p50', min),
                             *ratios(engines, items, 'p99', min)])
    heading = ['round trip, µs', 'scenario', 'bytes', 'min', 'p50', 'p99', 'p99.9',
               f'p50 / {BASE}', 'p50 / raw', f'p99 / {BASE}', 'p99 / raw']
    return markdown(heading, rows) if rows else ''


# ---- Charts ----------------------------------------------------------------------------------

def write_columns(name, heading, rows):
    """A chart's data: a line for each of what is varied, a column an engine."""
    engines = list(dict.fromkeys(engine for _, values in rows for engine in values))
    lines = [' '.join([heading, *engines])]
    for place, values in rows:
        cells = [values.get(engine) for engine in engines]
        lines.append(' '.join(['?' if v is None else str(v) for v in [place, *cells]]))
    if len(rows) > 1 and engines:
        (RESULTS / f'{name}.dat').write_text('\n'.join(lines) + '\n')


def medians(engines):
    return {engine: median(items, 'recv_pps') for engine, items in engines.items()}


def write_rates(table):
    for scenario in {scenario for scenario, _ in table if scenario in ('stream', 'fanout')}:
        write_columns(scenario, 'bytes', [(size, medians(engines)) for (name, size), engines
                                          in table.items() if name == scenario])


def write_trains():
    lengths = defaultdict(lambda: defaultdict(list))
    for run in read(RESULTS / 'trains.json'):
        lengths[run['segments']][run['engine']].append(run)
    write_columns('trains', 'segments', [(n, medians(lengths[n])) for n in sorted(lengths)])


def distribution(items):
    """Percentile -> nanoseconds, the medians of the rounds."""
    rounds = [dict(run['percentiles']) for run in items if 'percentiles' in run]
    return {place: statistics.median(times[place] for times in rounds)
            for place in (rounds[0] if rounds else [])}


def write_round_trips(place, table):
    """By percentile; of the smallest size."""
    for scenario in ROUND_TRIPS:
        sizes = [size for name, size in table if name == scenario]
        curves = {engine: distribution(items)
                  for engine, items in (table[scenario, sizes[0]] if sizes else {}).items()}
        percentiles = next((list(curve) for curve in curves.values() if curve), [])
        write_columns(place + scenario, 'percentile', [
            (percentile, {engine: curve[percentile] for engine, curve in curves.items() if curve})
            for percentile in percentiles])


def print_mode(everything, engine):
    modes = Counter(run['mode'] for run in everything if run['engine'] == engine
                    and run['scenario'] == 'stream' and 'mode' in run)
    print(modes.most_common(1)[0][0] if modes else '')


def print_head(everything, names):
    one = everything[0]
    modes = defaultdict(set)
    for run in everything:
        if 'mode' in run:
            modes[run['engine']].add(run['mode'])
    print(f"libdgram {one['version']}, Linux {one['kernel']}, {one['cpu']}; "
          f"medians of {max(run['round'] for run in everything)} rounds, ± is half the range."
          + ''.join(f' {engine} ran as {", ".join(sorted(names))}.'
                    for engine, names in modes.items()) + '\n')
    known = {**MODERATE, **SCENARIOS}
    print('\n'.join(f'- {name}: {known[name]}' for name in known if name in names) + '\n')


def print_place(place, table):
    texts = [text for text in (*collect_tables(place), *respond_table(place), rate_table(table),
                               ping_table(table)) if text]
    if texts:
        print(f'## {PLACES[place]}\n\n' + '\n\n'.join(texts) + '\n')


def main(arguments):
    tables = {place: runs(place) for place in PLACES}
    everything = [run for table in tables.values() for engines in table.values()
                  for items in engines.values() for run in items]
    everything += [run for name in (COLLECT, RESPOND) for place in PLACES
                   for engines in by_number(place + name).values()
                   for items in engines.values() for run in items]
    if arguments[:1] == ['--mode']:
        print_mode(everything, arguments[1])
        return
    if not everything:
        sys.exit('no results')
    print_head(everything, {scenario for table in tables.values() for scenario, _ in table}
               | {run['scenario'] for run in everything})
    for place, table in tables.items():
        print_place(place, table)
        write_round_trips(place, table)
        write_collected(place)
    print(f'/ {BASE}, / raw: the median of the ratios of each round, in which the engines ran one '
          'right after the other;\nraw is the better of raw-mmsg and raw-gso in that scenario. Of '
          'round trips less is better.')
    write_rates(tables[''])
    write_trains()


main(sys.argv[1:])
