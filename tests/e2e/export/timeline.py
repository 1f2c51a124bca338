"""Reads an export with Perfetto's own protobuf classes, and prints what is in it as JSON. Fails at the first packet that is
wrong."""

import collections
import json
import sys

from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb

BOOTTIME, REALTIME = 6, 1


def unknown_fields(message, where):
    """Fields of the message, or of one within it, that the schema does not have."""
    try:
        from google.protobuf.unknown_fields import UnknownFieldSet

        found = [f"{where}: {f.field_number}" for f in UnknownFieldSet(message)]
    except (ImportError, NotImplementedError):
        found = []
    for field, value in message.ListFields():
        if field.type != field.TYPE_MESSAGE:
            continue
        repeated = not hasattr(value, "ListFields")
        for inner in value if repeated else [value]:
            found += unknown_fields(inner, f"{where}.{field.name}")
    return found


def packets(path):
    """The packets, one by one: a packet is field 1 of a trace."""
    data = open(path, "rb").read()
    at = 0
    while at < len(data):
        assert data[at] == 0x0A, f"no packet at {at}"
        at += 1
        length = shift = 0
        while True:
            byte = data[at]
            at += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        yield pb.TracePacket.FromString(data[at : at + length])
        assert at + length <= len(data), "the last packet is cut"
        at += length


def main(path):
    tracks, interned, defaults, last, begun = {}, {}, {}, {}, set()
    stacks = collections.defaultdict(list)
    slices = collections.Counter()
    by_track = collections.Counter()
    instants = collections.Counter()
    counters = collections.Counter()
    failed = counted = lost = duration = 0
    flows = collections.defaultdict(lambda: ([], []))
    clocks = []
    moments = []
    attributes = {}
    used = set()
    samples = []
    for n, packet in enumerate(packets(path)):
        assert not unknown_fields(packet, f"packet {n}"), unknown_fields(packet, f"packet {n}")
        assert packet.IsInitialized()
        if packet.HasField("clock_snapshot"):
            clocks.append({c.clock_id: c.timestamp for c in packet.clock_snapshot.clocks})
        for a in packet.trace_attributes.attribute:
            attributes[a.key] = a.string_value if a.HasField("string_value") else a.long_value
        if packet.HasField("track_descriptor"):
            d = packet.track_descriptor
            assert d.uuid and d.uuid not in tracks, f"track {d.uuid} twice"
            assert not d.HasField("parent_uuid") or d.parent_uuid in tracks, f"no parent of {d}"
            tracks[d.uuid] = d
        if not packet.HasField("track_event"):
            continue
        sequence, event = packet.trusted_packet_sequence_id, packet.track_event
        if packet.sequence_flags & 1:
            interned[sequence] = {k: {} for k in ("categories", "names", "annotations", "texts")}
            begun.add(sequence)
        assert sequence in begun and packet.sequence_flags & 2
        if packet.HasField("trace_packet_defaults"):
            defaults[sequence] = packet.trace_packet_defaults.track_event_defaults.track_uuid
        names = interned[sequence]
        data = packet.interned_data
        for key, entries in [
            ("categories", data.event_categories),
            ("names", data.event_names),
            ("annotations", data.debug_annotation_names),
        ]:
            for entry in entries:
                assert entry.iid and entry.iid not in names[key]
                names[key][entry.iid] = entry.name
        for entry in data.debug_annotation_string_values:
            assert entry.iid not in names["texts"]
            names["texts"][entry.iid] = getattr(entry, "str").decode()
        assert last.get(sequence, 0) <= packet.timestamp, f"packet {n} goes back in time"
        last[sequence] = packet.timestamp
        track = event.track_uuid or defaults[sequence]
        assert track in tracks, f"no track {track}"
        used.add(track)

        def value(a):
            if a.dict_entries:
                return {names["annotations"][e.name_iid]: value(e) for e in a.dict_entries}
            if a.HasField("string_value_iid"):
                return names["texts"][a.string_value_iid]
            for field in ("string_value", "int_value", "uint_value"):
                if a.HasField(field):
                    return getattr(a, field)
            return None

        notes = {names["annotations"][a.name_iid]: value(a) for a in event.debug_annotations}
        name = names["names"][event.name_iid] if event.HasField("name_iid") else event.name
        category = [names["categories"][i] for i in event.category_iids]
        label = tracks[track].name or ("thread" if tracks[track].HasField("thread") else "process")
        kind = event.type
        if kind == pb.TrackEvent.TYPE_SLICE_BEGIN:
            # No slice is in another: they end before the next begins.
            assert not stacks[track], f"{name} begins within {stacks[track]}"
            stacks[track].append((packet.timestamp, name, category))
            slices[category[0].split(",")[0]] += 1
            by_track[label] += 1
            failed += "failed" in category[0]
            if category[0] == "loss":
                lost += notes["count"]
            if len(samples) < 3 and category[0].startswith("syscall"):
                samples.append([name, notes])
        elif kind == pb.TrackEvent.TYPE_SLICE_END:
            begin, _, category = stacks[track].pop()
            assert begin <= packet.timestamp
            if category[0].split(",")[0] in ("syscall", "engine"):
                duration += packet.timestamp - begin
        elif kind == pb.TrackEvent.TYPE_INSTANT:
            instants[label] += 1
            if category[0] == "counted":
                counted += notes["count"]
            if label == "first divergence":
                moments.append([packet.timestamp, name, notes])
            for flow in event.flow_ids:
                flows[flow][0].append((packet.timestamp, name))
            for flow in event.terminating_flow_ids:
                flows[flow][1].append((packet.timestamp, name))
        else:
            assert kind == pb.TrackEvent.TYPE_COUNTER
            assert tracks[track].HasField("counter")
            counters[label] += 1
    assert not any(stacks.values()), "a slice has no end"
    arrows = collections.Counter()
    for flow, (begins, ends) in flows.items():
        assert len(begins) == len(ends) == 1, (flow, begins, ends)
        assert begins[0][0] <= ends[0][0], (begins, ends)
        arrows[begins[0][1], ends[0][1]] += 1
    assert BOOTTIME in clocks[0] and REALTIME in clocks[0]
    lone = {u for u, d in tracks.items() if not d.HasField("process") and not d.HasField("thread")}
    parents = {d.parent_uuid for d in tracks.values()}
    assert lone <= used | parents, [tracks[u].name for u in lone - used - parents]
    print(
        json.dumps(
            {
                "slices": slices,
                "tracks": by_track,
                "instants": instants,
                "counters": counters,
                "failed": failed,
                "counted": counted,
                "lost": lost,
                "duration_ns": duration,
                "flows": len(flows),
                "arrows": [[*ends, count] for ends, count in arrows.items()],
                "clock": [clocks[0][BOOTTIME], clocks[0][REALTIME]],
                "moments": moments,
                "attributes": attributes,
                "processes": sum(d.HasField("process") for d in tracks.values()),
                "threads": sum(d.HasField("thread") for d in tracks.values()),
                "samples": samples,
            }
        )
    )


main(sys.argv[1])
