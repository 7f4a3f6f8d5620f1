"""The Grafana dashboards, as code: dashboards.py FOLDER writes them there. `cargo xtask generate` runs it.

Three boards, from the whole to the part: the fleet, one trunk, one node. A panel leads to the traces of what it shows and to
the runbook of the alert that watches it.
"""

import json
import pathlib
import sys
import urllib.parse

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as words
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

RUNBOOKS = "https://example.invalid/sipobs/blob/main/docs/runbooks.md"
METRICS = model.DataSourceRef(type_val="prometheus", uid="${metrics}")

# One colour a meaning, on every board.
METHODS = {"REFER": "green", "INVITE": "orange", "redirect": "blue", "none": "red"}
OUTCOMES = {"succeeded": "green", "busy": "yellow", "no_answer": "yellow", "forbidden": "red", "refer_refused": "red"}
FAULTS = {"nobody": "green", "caller": "blue", "target": "blue", "provider": "red", "platform": "orange", "network": "purple"}


def main(folder):
    for board in (fleet(), trunk(), node()):
        built = board.build()
        for number_of, panel in enumerate(built.panels, 1):
            panel.id_val = number_of
            for letter, target in zip("ABCDEFGH", getattr(panel, "targets", None) or []):
                target.ref_id = target.ref_id or letter
        path = pathlib.Path(folder) / f"{built.uid}.json"
        path.write_text(json.dumps(built, cls=JSONEncoder, indent=2, sort_keys=True) + "\n", encoding="utf-8")


# ---- The boards

TRUNK = 'trunk=~"$trunk"'
NODE = 'instance=~"$instance"'
# Every program that Prometheus scrapes has metrics of its process.
PROCESS = 'job=~".*sipobs.*", ' + NODE


def attempts(selector=None):
    """Attempts of the trunk in each interval."""
    selectors = ", ".join(filter(None, [TRUNK, selector]))
    return f"increase(sipobs_transfer_attempts_total{{{selectors}}}[$__interval])"


def fleet():
    board = new_board("sipobs-fleet", "sipobs: fleet", "All trunks and all nodes: is anything wrong, and where?", "now-24h")
    board.with_row(dashboard.Row("Now"))
    board.with_panel(
        number("Nodes that answer", 4, 'sum(up{job=~".*sipobs.*"})').links([runbook("SipobsDown")])
    )
    board.with_panel(
        number("Alerts that fire", 4, 'count(ALERTS{alertname=~"Sipobs.*", alertstate="firing"}) or vector(0)')
        .thresholds(steps(("green", None), ("red", 1)))
    )
    board.with_panel(number("Transfers tried", 4, "sum(increase(sipobs_transfer_attempts_total[$__range]))"))
    board.with_panel(
        number(
            "… that worked",
            4,
            'sum(increase(sipobs_transfer_attempts_total{outcome="succeeded"}[$__range]))'
            " / sum(increase(sipobs_transfer_attempts_total[$__range]))",
            unit="percentunit",
        )
    )
    board.with_panel(
        number(
            "Calls that ended without",
            4,
            'sum(increase(sipobs_calls_ended_total{refer_absent!="no"}[$__range]))',
        ).links([runbook("SipobsReferAbsent")])
    )
    board.with_panel(number("Calls known", 4, "sum(sipobs_calls_known)"))
    board.with_row(dashboard.Row("Trunks"))
    board.with_panel(trunk_table())
    board.with_panel(
        lines("Attempts by outcome", 12, OUTCOMES)
        .with_target(query("sum by (outcome) (increase(sipobs_transfer_attempts_total[$__interval])) > 0", "{{outcome}}"))
        .links([runbook("SipobsTransferFailures")])
    )
    board.with_panel(
        lines("Attempts by fault", 12, FAULTS)
        .with_target(query("sum by (fault) (increase(sipobs_transfer_faults_total[$__interval]))", "{{fault}}"))
        .links([runbook("SipobsTransferFailures")])
    )
    board.with_row(dashboard.Row("Nodes"))
    board.with_panel(
        lines("SIP messages a second", 8, unit="mps", bars=False)
        .with_target(query("sum by (instance) (rate(sipobs_messages_total[$__rate_interval]))", "{{instance}}"))
        .data_links([board_link("sipobs-node", "instance")])
        .links([runbook("SipobsNodeBlind")])
    )
    board.with_panel(
        lines("Frames lost", 8)
        .with_target(query("sum by (instance) (increase(sipobs_capture_frames_lost_total[$__interval]))", "{{instance}}"))
        .data_links([board_link("sipobs-node", "instance")])
        .links([runbook("SipobsCaptureLosesFrames")])
    )
    board.with_panel(
        lines("Spans that wait for the collector", 8, bars=False)
        .with_target(query("sum by (instance) (sipobs_otlp_spans_waiting)", "{{instance}}"))
        .data_links([board_link("sipobs-node", "instance")])
        .links([runbook("SipobsCollectorUnreachable")])
    )
    return board


def trunk():
    board = new_board(
        "sipobs-trunk",
        "sipobs: trunk",
        "How a trunk's calls are transferred. Green that turns orange is a switch of method; green that turns red is no transfer at all.",
        "now-7d",
    ).with_variable(variable("trunk", "Trunk", "label_values(sipobs_calls_ended_total, trunk)"))
    board.with_panel(
        lines("How calls are transferred", 24, METHODS, height=10, percent=True, interval="10m")
        .description(
            "Of all calls that were transferred or might have been: by REFER, by a second call of the platform's own (INVITE), "
            "by redirection, or ended in BYE without any."
        )
        .with_target(query('sum(%s)' % attempts('method=~"refer|refer_bye|also"'), "REFER"))
        .with_target(query('sum(%s)' % attempts('method="invite"'), "INVITE"))
        .with_target(query('sum(%s)' % attempts('method="redirect"'), "redirect"))
        .with_target(query(f'sum(increase(sipobs_calls_ended_total{{{TRUNK}, refer_absent!="no"}}[$__interval]))', "none"))
        .data_links([traces("trunk", "${trunk}")])
        .links([runbook("SipobsMethodSwitched"), runbook("SipobsReferAbsent")])
    )
    board.with_panel(
        lines("Attempts by outcome", 12, OUTCOMES, interval="10m")
        .with_target(query(f"sum by (outcome) ({attempts()}) > 0", "{{outcome}}"))
        .data_links([traces("outcome")])
        .links([runbook("SipobsTransferFailures"), runbook("SipobsProviderRefusals"), runbook("SipobsReferUnanswered")])
    )
    board.with_panel(
        lines("Attempts by fault", 12, FAULTS, interval="10m")
        .with_target(query(f"sum by (fault) (increase(sipobs_transfer_faults_total{{{TRUNK}}}[$__interval]))", "{{fault}}"))
        .data_links([traces("fault")])
        .links([runbook("SipobsTransferFailures")])
    )
    board.with_panel(
        lines("Of these, failed", 8, bars=False, unit="percentunit", interval="10m")
        .description("The share that busy, no answer and callers who gave up are not part of.")
        .with_target(
            query(
                f'sum by (trunk) (increase(sipobs_transfer_faults_total{{{TRUNK}, fault!~"nobody|caller|target"}}[1h]))'
                f" / sum by (trunk) (increase(sipobs_transfer_faults_total{{{TRUNK}}}[1h]))",
                "{{trunk}}",
            )
        )
        .data_links([traces()])
    )
    board.with_panel(
        lines("Rang out", 8, bars=False, unit="percentunit", interval="10m")
        .with_target(
            query(
                f'sum by (trunk) (increase(sipobs_transfer_attempts_total{{{TRUNK}, outcome="no_answer"}}[1h]))'
                f" / sum by (trunk) (increase(sipobs_transfer_attempts_total{{{TRUNK}}}[1h]))",
                "{{trunk}}",
            )
        )
        .data_links([traces()])
        .links([runbook("SipobsRingTimerNoAnswers")])
    )
    board.with_panel(
        lines("Who ended the calls", 8, interval="10m")
        .with_target(query(f"sum by (ended_by) (increase(sipobs_calls_ended_total{{{TRUNK}}}[$__interval]))", "{{ended_by}}"))
    )
    board.with_panel(
        lines("Was a REFER absent?", 12, interval="10m")
        .description("fact: no transfer of any kind was seen; suspected: the signals point to one that did not happen.")
        .with_target(
            query(f"sum by (refer_absent) (increase(sipobs_calls_ended_total{{{TRUNK}}}[$__interval]))", "{{refer_absent}}")
        )
        .links([runbook("SipobsReferAbsent")])
    )
    board.with_panel(
        lines("Alerts raised by the daemons", 12, interval="10m")
        .with_target(
            query(f"sum by (trunk, alert) (increase(sipobs_alerts_total{{{TRUNK}}}[$__interval]))", "{{trunk}} {{alert}}")
        )
        .links([runbook("SipobsMethodSwitched"), runbook("SipobsTransfersVanished")])
    )
    board.with_row(dashboard.Row("How long it takes"))
    for title, metric, description in (
        ("Until the target rings", "ringing", "From a transfer's INVITE to the first ringing, where both were seen."),
        ("Until the target answers", "answer", "From a transfer's INVITE to its final answer, where both were seen."),
        ("Of a transfer", "duration", "From an attempt's first message to what decided it."),
        ("Until the verdict", "verdict_delay", "From what decided an attempt to its verdict, which waits until nothing can change it."),
    ):
        board.with_panel(durations(title, f"sipobs_transfer_{metric}_seconds").description(description))
    board.with_panel(
        lines("Since the last SIP message", 12, unit="s", bars=False)
        .with_target(
            query(f"time() - max by (trunk) (sipobs_trunk_last_message_timestamp_seconds{{{TRUNK}}} > 0)", "{{trunk}}")
        )
        .links([runbook("SipobsNodeBlind")])
    )
    board.with_panel(
        lines("Since the last REFER", 12, unit="s", bars=False)
        .with_target(
            query(f"time() - max by (trunk) (sipobs_trunk_last_refer_timestamp_seconds{{{TRUNK}}} > 0)", "{{trunk}}")
        )
        .links([runbook("SipobsMethodSwitched"), runbook("SipobsReferAbsent")])
    )
    return board


def node():
    board = new_board(
        "sipobs-node", "sipobs: node", "Whether a node watches all that it should, and all of it arrives.", "now-6h"
    ).with_variable(variable("instance", "Node", "label_values(sipobs_messages_total, instance)"))
    board.with_row(dashboard.Row("From the wire"))
    board.with_panel(
        lines("Frames a second", 8, unit="pps", bars=False)
        .with_target(query(f"sum by (hook) (rate(sipobs_capture_frames_seen_total{{{NODE}}}[$__rate_interval]))", "{{hook}} seen"))
        .with_target(
            query(f"sum by (hook) (rate(sipobs_capture_frames_matched_total{{{NODE}}}[$__rate_interval]))", "{{hook}} SIP")
        )
    )
    board.with_panel(
        lines("Frames lost", 8)
        .with_target(
            query(
                f"sum by (instance, hook, reason) (increase(sipobs_capture_frames_lost_total{{{NODE}}}[$__interval]))",
                "{{instance}} {{hook}} {{reason}}",
            )
        )
        .links([runbook("SipobsCaptureLosesFrames")])
    )
    board.with_panel(
        lines("Interfaces", 8, bars=False)
        .with_target(query(f"sum by (state) (sipobs_capture_interfaces{{{NODE}}})", "{{state}}"))
        .links([runbook("SipobsInterfaceMissing"), runbook("SipobsNothingToWatch")])
    )
    board.with_panel(
        listing("Attached programs", 12).with_target(rows(f"sipobs_capture_attached{{{NODE}}}"))
    )
    board.with_panel(
        lines("Frames in the rings", 6, bars=False)
        .with_target(query(f"sum by (instance) (sipobs_capture_frames_in_ring{{{NODE}}})", "{{instance}}"))
    )
    board.with_panel(
        lines("Clock steps", 6, unit="s", bars=False)
        .with_target(query(f"sipobs_capture_clock_step_seconds{{{NODE}}}", "{{instance}}"))
    )
    board.with_row(dashboard.Row("What was understood"))
    board.with_panel(
        lines("SIP messages a second", 8, unit="mps", bars=False)
        .with_target(query(f"sum by (instance) (rate(sipobs_messages_total{{{NODE}}}[$__rate_interval]))", "{{instance}}"))
        .links([runbook("SipobsNodeBlind")])
    )
    board.with_panel(
        lines("What became of the frames", 8)
        .with_target(query(f"sum by (fate) (increase(sipobs_frames_accounted_total{{{NODE}}}[$__interval]))", "{{fate}}"))
    )
    board.with_panel(
        lines("Not understood", 8)
        .with_target(query(f"sum by (reason) (increase(sipobs_not_understood_total{{{NODE}}}[$__interval]))", "{{reason}}"))
        .with_target(query(f"sum by (where) (increase(sipobs_evidence_lost_total{{{NODE}}}[$__interval]))", "missing: {{where}}"))
    )
    board.with_row(dashboard.Row("Memory"))
    board.with_panel(
        lines("Calls and attempts under way", 8, bars=False)
        .with_target(query(f"sum by (instance) (sipobs_calls_known{{{NODE}}})", "{{instance}} calls"))
        .with_target(query(f"sum by (instance) (sipobs_attempts_open{{{NODE}}})", "{{instance}} attempts"))
    )
    board.with_panel(
        lines("Memory of calls, of what they may take", 8, unit="percentunit", bars=False)
        .with_target(
            query(f"sipobs_calls_memory_bytes{{{NODE}}} / sipobs_calls_memory_limit_bytes{{{NODE}}}", "{{instance}}")
        )
    )
    board.with_panel(
        lines("Let go of for want of room", 8)
        .with_target(
            query(f"sum by (table, reason) (increase(sipobs_evicted_total{{{NODE}}}[$__interval]))", "{{table}} {{reason}}")
        )
        .links([runbook("SipobsMemoryBudgetEvicts")])
    )
    board.with_row(dashboard.Row("The daemon's process"))
    board.with_panel(
        lines("CPU", 6, unit="percentunit", bars=False)
        .description("Of one CPU.")
        .with_target(query(f"rate(process_cpu_seconds_total{{{PROCESS}}}[$__rate_interval])", "{{instance}}"))
    )
    board.with_panel(
        lines("Resident memory", 6, unit="bytes", bars=False)
        .with_target(query(f"process_resident_memory_bytes{{{PROCESS}}}", "{{instance}}"))
    )
    board.with_panel(
        lines("Open files, of those it may open", 6, unit="percentunit", bars=False)
        .with_target(query(f"process_open_fds{{{PROCESS}}} / process_max_fds{{{PROCESS}}}", "{{instance}}"))
    )
    board.with_panel(
        lines("Runs since", 6, unit="s", bars=False)
        .with_target(query(f"time() - process_start_time_seconds{{{PROCESS}}}", "{{instance}}"))
    )
    board.with_row(dashboard.Row("To the outside"))
    board.with_panel(
        lines("Spans", 8)
        .with_target(query(f"sum(increase(sipobs_otlp_spans_acknowledged_total{{{NODE}}}[$__interval]))", "delivered"))
        .with_target(
            query(f"sum by (reason) (increase(sipobs_otlp_spans_dropped_total{{{NODE}}}[$__interval]))", "dropped: {{reason}}")
        )
        .links([runbook("SipobsSpansDropped")])
    )
    board.with_panel(
        lines("Spans that wait, and requests that failed", 8, bars=False)
        .with_target(query(f"sum by (instance) (sipobs_otlp_spans_waiting{{{NODE}}})", "{{instance}} wait"))
        .with_target(
            query(f"sum by (instance) (increase(sipobs_otlp_requests_failed_total{{{NODE}}}[$__interval]))", "{{instance}} failed")
        )
        .links([runbook("SipobsCollectorUnreachable")])
    )
    board.with_panel(
        lines("Records", 8)
        .with_target(query(f"sum by (sink) (increase(sipobs_outputs_written_total{{{NODE}}}[$__interval]))", "{{sink}} written"))
        .with_target(query(f"sum by (sink) (increase(sipobs_outputs_dropped_total{{{NODE}}}[$__interval]))", "{{sink}} dropped"))
        .with_target(
            query(f"sum(increase(sipobs_state_write_failures_total{{{NODE}}}[$__interval]))", "state file not written")
        )
        .links([runbook("SipobsRecordsDropped"), runbook("SipobsStateNotSaved")])
    )
    return board


# ---- What they are made of


def new_board(uid, title, description, since):
    firing = dashboard.AnnotationQuery().name("Alerts").datasource(METRICS).enable(True).icon_color("red")
    board = dashboard.Dashboard(title).uid(uid).description(description).tags(["sipobs", "sip"])
    board.time(since, "now").refresh("1m").timezone("browser").readonly()
    board.tooltip(model.DashboardCursorSync.CROSSHAIR)
    board.annotation(firing.expr('ALERTS{alertname=~"Sipobs.*", alertstate="firing"}'))
    board.with_variable(dashboard.DatasourceVariable("metrics").label("Metrics").type("prometheus"))
    board.with_variable(dashboard.DatasourceVariable("traces").label("Traces").type("jaeger"))
    link = dashboard.DashboardLink("sipobs").type(model.DashboardLinkType.DASHBOARDS).tags(["sipobs"])
    return board.link(link.include_vars(True).keep_time(True))


def variable(name, label, values):
    made = dashboard.QueryVariable(name).label(label).datasource(METRICS).query(values)
    made.refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(model.VariableSort.ALPHABETICAL_ASC)
    return made.multi(True).include_all(True)


def query(expr, legend):
    return prometheus.Dataquery().datasource(METRICS).expr(expr).legend_format(legend).range()


def rows(expr):
    return prometheus.Dataquery().datasource(METRICS).expr(expr).instant().format(PromQueryFormat.TABLE)


def number(title, width, expr, unit="short"):
    panel = stat.Panel().title(title).height(4).span(width).unit(unit).datasource(METRICS).decimals(0)
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    panel.graph_mode(words.BigValueGraphMode.NONE).thresholds(steps(("text", None)))
    return panel.with_target(prometheus.Dataquery().datasource(METRICS).expr(expr).instant())


def lines(title, width, colours=None, unit="short", height=8, bars=True, percent=False, interval=None):
    """Series over time: bars for what is counted in each interval, lines for what stands at a moment."""
    panel = timeseries.Panel().title(title).height(height).span(width).unit(unit).datasource(METRICS).min(0)
    panel.legend(common.VizLegendOptions().show_legend(True).placement(words.LegendPlacement.BOTTOM)
                 .display_mode(words.LegendDisplayMode.LIST))
    panel.tooltip(common.VizTooltipOptions().mode(words.TooltipDisplayMode.MULTI))
    if bars:
        mode = words.StackingMode.PERCENT if percent else words.StackingMode.NORMAL
        panel.draw_style(words.GraphDrawStyle.BARS).fill_opacity(80).stacking(common.StackingConfig().mode(mode).group("A"))
    if interval:
        panel.interval(interval)
    for name, colour in (colours or {}).items():
        value = {"mode": "fixed", "fixedColor": colour}
        panel.override_by_name(name, [model.DynamicConfigValue(id_val="color", value=value)])
    return panel


def durations(title, metric):
    """What half of the attempts stay below, and what all but the slowest twentieth do."""
    panel = lines(title, 6, unit="s", bars=False, interval="10m").data_links([traces()])
    for share, words_for_it in ((0.5, "half"), (0.95, "95 %")):
        buckets = f"sum by (le) (increase({metric}_bucket{{{TRUNK}}}[1h]))"
        panel.with_target(query(f"histogram_quantile({share}, {buckets})", words_for_it))
    return panel


def listing(title, width):
    return table.Panel().title(title).height(8).span(width).datasource(METRICS)


def trunk_table():
    """One row a trunk, in the range that is looked at."""
    panel = listing("Trunks", 24)
    tried = "sum by (trunk) (increase(sipobs_transfer_attempts_total%s[$__range]))"
    for name, expr in {
        "REFER": tried % '{method=~"refer|refer_bye|also"}',
        "INVITE": tried % '{method="invite"}',
        "without": 'sum by (trunk) (increase(sipobs_calls_ended_total{refer_absent!="no"}[$__range]))',
        "worked": tried % '{outcome="succeeded"}' + " / " + tried % "",
        "provider's fault": 'sum by (trunk) (increase(sipobs_transfer_faults_total{fault="provider"}[$__range]))',
    }.items():
        panel.with_target(rows(expr).ref_id(name))
        panel.override_by_name(f"Value #{name}", [model.DynamicConfigValue(id_val="displayName", value=name)])
    panel.override_by_name("Value #worked", [model.DynamicConfigValue(id_val="unit", value="percentunit")])
    panel.decimals(0)
    panel.with_transformation(model.DataTransformerConfig(id_val="merge", options={}))
    panel.with_transformation(
        model.DataTransformerConfig(id_val="organize", options={"excludeByName": {"Time": True}, "indexByName": {"trunk": 0}})
    )
    return panel.data_links([board_link("sipobs-trunk", "trunk"), traces("trunk", "${__data.fields.trunk}")])


def steps(*pairs):
    thresholds = [model.Threshold(value=value, color=colour) for colour, value in pairs]
    return dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(thresholds)


def runbook(alert):
    link = dashboard.DashboardLink(f"Runbook: {alert}").type(model.DashboardLinkType.LINK)
    return link.url(f"{RUNBOOKS}#{alert.lower()}").target_blank(True)


def board_link(uid, label):
    link = dashboard.DashboardLink(f"This {'node' if label == 'instance' else label}").type(model.DashboardLinkType.LINK)
    value = "${__field.labels.instance}" if label == "instance" else "${__data.fields.trunk}"
    return link.url(f"/d/{uid}?var-{label}={value}&${{__url_time_range}}")


def traces(label="trunk", value=None):
    """To the traces in Grafana's Explore, of those attempts that have the same word as the series or row has."""
    tags = f"sip.transfer.{label}={value or '${__field.labels.' + label + '}'}"
    pane = {
        "datasource": "${traces}",
        "queries": [
            {
                "refId": "A",
                "datasource": {"type": "jaeger", "uid": "${traces}"},
                "queryType": "search",
                "service": "sipobs",
                "operation": "sip.transfer",
                "tags": tags,
            }
        ],
        "range": {"from": "${__from}", "to": "${__to}"},
    }
    # Grafana puts its variables in before it reads the address: their signs must stay as they are.
    panes = urllib.parse.quote(json.dumps({"a": pane}), safe="${}")
    link = dashboard.DashboardLink("Traces").type(model.DashboardLinkType.LINK)
    return link.url(f"/explore?schemaVersion=1&panes={panes}").target_blank(True)


main(sys.argv[1])
