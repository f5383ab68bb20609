from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry_fleet.mqtt import codec, filters, packets
from skerry_fleet.mqtt.errors import ProtocolError, TooLargeError, VersionError
from skerry_fleet.mqtt.packets import Connect, Packet, Publish, Will

EVERY = packets.TO_BROKER | packets.TO_CLIENT
LIMIT = 300_000

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)
topics = st.text(st.characters(exclude_characters="\0+#", exclude_categories=["Cs"]), min_size=1, max_size=40)
filter_names = st.lists(st.one_of(topics, st.just("+")), min_size=1, max_size=4).map("/".join) | st.just("a/#")
ids = st.integers(1, 65535)
payloads = st.binary(max_size=300)
wills = st.builds(Will, topics, payloads, st.integers(0, 1), st.booleans())
publishes = st.builds(Publish, topics, payloads, st.just(0), st.booleans(), st.just(False), st.just(0)) | st.builds(
    Publish, topics, payloads, st.just(1), st.booleans(), st.booleans(), ids
)


@st.composite
def connects(draw: st.DrawFn) -> Connect:
    username = draw(st.none() | texts)
    password = None if username is None else draw(st.none() | payloads)
    will = draw(st.none() | wills)
    return Connect(draw(texts), draw(st.integers(0, 65535)), draw(st.booleans()), will, username, password)


any_packet: st.SearchStrategy[Packet] = st.one_of(
    publishes,
    connects(),
    st.builds(packets.Connack, st.integers(1, 5), st.just(False))
    | st.builds(packets.Connack, st.just(0), st.booleans()),
    st.builds(packets.Puback, ids),
    st.builds(packets.Unsuback, ids),
    st.builds(
        packets.Subscribe, ids, st.lists(st.tuples(filter_names, st.integers(0, 2)), min_size=1, max_size=4).map(tuple)
    ),
    st.builds(packets.Unsubscribe, ids, st.lists(filter_names, min_size=1, max_size=4).map(tuple)),
    st.builds(packets.Suback, ids, st.lists(st.sampled_from([0, 1, 2, 128]), min_size=1, max_size=4).map(tuple)),
    st.sampled_from([packets.Pingreq(), packets.Pingresp(), packets.Disconnect()]),
)


def decode(data: bytes, limit: int = LIMIT) -> list[Packet]:
    decoder = codec.Decoder(EVERY, limit)
    found = decoder.feed(data)
    if decoder.fault is not None:
        raise decoder.fault
    return found


@given(st.lists(any_packet, max_size=5), st.data())
def test_round_trip_over_any_split_of_the_stream(sent: list[Packet], data: st.DataObject) -> None:
    stream = b"".join(map(codec.encode, sent))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    decoder = codec.Decoder(EVERY, LIMIT)
    found: list[Packet] = []
    for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += decoder.feed(stream[start:stop])
    assert found == sent and [type(each) for each in found] == [type(each) for each in sent]
    assert decoder.fault is None and decoder.waiting_bytes == 0


@given(st.lists(st.binary(max_size=40), max_size=8))
def test_hostile_bytes_only_set_the_fault(chunks: list[bytes]) -> None:
    decoder = codec.Decoder(EVERY, 64)
    for chunk in chunks:
        decoder.feed(chunk)
        assert decoder.waiting_bytes <= 64 + len(chunk)
    if decoder.fault is not None:
        assert isinstance(decoder.fault, ProtocolError) and decoder.feed(b"\xc0\x00") == []


@settings(max_examples=300)
@given(any_packet, st.data())
def test_damaged_packets_are_read_or_refused(packet: Packet, data: st.DataObject) -> None:
    stream = bytearray(codec.encode(packet))
    for _ in range(data.draw(st.integers(1, 3))):
        stream[data.draw(st.integers(0, 10**6)) % len(stream)] = data.draw(st.integers(0, 255))
    decoder = codec.Decoder(EVERY, 1000)
    for each in decoder.feed(bytes(stream)):
        if not isinstance(each, Publish) or filters.valid_topic(each.topic):
            codec.encode(each)  # whatever is read is a packet that can be said


@given(st.lists(publishes, min_size=1, max_size=4), st.data())
def test_what_came_before_a_fault_is_kept(sent: list[Publish], data: st.DataObject) -> None:
    stream = b"".join(map(codec.encode, sent)) + b"\xf0\x00" + b"rest"
    cut = data.draw(st.integers(0, len(stream)))
    decoder = codec.Decoder(EVERY, LIMIT)
    assert decoder.feed(stream[:cut]) + decoder.feed(stream[cut:]) == sent
    assert decoder.fault is not None


def test_a_declared_size_allocates_nothing() -> None:
    """A header that announces a packet within the limit holds only what has arrived; one over it is refused at once."""
    decoder = codec.Decoder(EVERY, 300_000_000)
    assert decoder.feed(b"\x30\xff\xff\xff\x7f") == [] and decoder.waiting_bytes == 5
    with pytest.raises(TooLargeError):
        decode(b"\x30\xff\xff\xff\x7f")


def test_a_large_packet_in_drops() -> None:
    sent = Publish("a", b"x" * 200_000, 1, False, False, 7)
    stream, decoder, found = codec.encode(sent), codec.Decoder(EVERY, LIMIT), []
    for position in range(len(stream)):
        found += decoder.feed(stream[position : position + 1])
    assert found == [sent]


HELLO = b"\x00\x04MQTT\x04\x02\x00\x3c\x00\x01a"


def framed(first: int, body: bytes) -> bytes:
    return bytes((first, len(body))) + body


@pytest.mark.parametrize(
    "stream",
    {
        "type 0": b"\x00\x00",
        "type 15": b"\xf0\x00",
        "pubrec": b"\x50\x02\x00\x01",
        "length of five bytes": b"\x30\xff\xff\xff\xff\x7f",
        "connect: reserved flag": framed(0x10, b"\x00\x04MQTT\x04\x03\x00\x3c\x00\x01a"),
        "connect: will qos without will": framed(0x10, b"\x00\x04MQTT\x04\x0a\x00\x3c\x00\x01a"),
        "connect: will qos 3": framed(0x10, b"\x00\x04MQTT\x04\x1e\x00\x3c\x00\x01a\x00\x01t\x00\x00"),
        "connect: will qos 2": framed(0x10, b"\x00\x04MQTT\x04\x16\x00\x3c\x00\x01a\x00\x01t\x00\x00"),
        "connect: will topic with wildcard": framed(0x10, b"\x00\x04MQTT\x04\x06\x00\x3c\x00\x01a\x00\x01#\x00\x00"),
        "connect: password without name": framed(0x10, b"\x00\x04MQTT\x04\x42\x00\x3c\x00\x01a\x00\x01p"),
        "connect: more than it should hold": framed(0x10, HELLO + b"x"),
        "connect: cut short": framed(0x10, HELLO[:-1]),
        "connect: flags": framed(0x11, HELLO),
        "connect: empty": b"\x10\x00",
        "publish: qos 3": framed(0x36, b"\x00\x01a\x00\x01"),
        "publish: qos 2": framed(0x34, b"\x00\x01a\x00\x01"),
        "publish: dup without qos": framed(0x38, b"\x00\x01a"),
        "publish: empty topic": framed(0x30, b"\x00\x00"),
        "publish: topic with +": framed(0x30, b"\x00\x01+"),
        "publish: topic with #": framed(0x30, b"\x00\x03a/#"),
        "publish: topic with NUL": framed(0x30, b"\x00\x01\x00"),
        "publish: no UTF-8": framed(0x30, b"\x00\x01\xff"),
        "publish: surrogate": framed(0x30, b"\x00\x03\xed\xa0\x80"),
        "publish: overlong UTF-8": framed(0x30, b"\x00\x02\xc0\x80"),
        "publish: topic beyond the end": framed(0x30, b"\x00\x09a"),
        "publish: one byte": framed(0x30, b"\x00"),
        "publish: id 0": framed(0x32, b"\x00\x01a\x00\x00"),
        "publish: no id": framed(0x32, b"\x00\x01a\x00"),
        "puback: id 0": framed(0x40, b"\x00\x00"),
        "puback: long": framed(0x40, b"\x00\x01\x00"),
        "puback: flags": framed(0x42, b"\x00\x01"),
        "subscribe: flags": framed(0x80, b"\x00\x01\x00\x01a\x00"),
        "subscribe: none": framed(0x82, b"\x00\x01"),
        "subscribe: qos 3": framed(0x82, b"\x00\x01\x00\x01a\x03"),
        "subscribe: bad filter": framed(0x82, b"\x00\x01\x00\x02a+\x00"),
        "subscribe: # in the middle": framed(0x82, b"\x00\x01\x00\x03#/a\x00"),
        "subscribe: empty filter": framed(0x82, b"\x00\x01\x00\x00\x00"),
        "subscribe: id 0": framed(0x82, b"\x00\x00\x00\x01a\x00"),
        "unsubscribe: none": framed(0xA2, b"\x00\x01"),
        "suback: none": framed(0x90, b"\x00\x01"),
        "suback: 3": framed(0x90, b"\x00\x01\x03"),
        "connack: code 6": framed(0x20, b"\x00\x06"),
        "connack: session with refusal": framed(0x20, b"\x01\x01"),
        "pingreq with content": framed(0xC0, b"x"),
        "disconnect with flags": b"\xe1\x00",
    }.items(),
    ids=lambda each: each[0],
)
def test_violations_are_refused(stream: tuple[str, bytes]) -> None:
    with pytest.raises(ProtocolError):
        decode(stream[1])


def test_other_versions_are_told_apart() -> None:
    for body in (HELLO.replace(b"\x04\x02", b"\x05\x02"), b"\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x01a", b"\x00\x00\x04"):
        with pytest.raises(VersionError):
            decode(framed(0x10, body))


def test_only_expected_packets_are_taken() -> None:
    decoder = codec.Decoder(packets.TO_CLIENT, LIMIT)
    decoder.feed(codec.encode(packets.Pingreq()))
    assert isinstance(decoder.fault, ProtocolError)


@pytest.mark.parametrize(
    "packet",
    [
        Publish("", b""),
        Publish("a/#", b""),
        Publish("a", b"", 2, False, False, 1),
        Publish("a", b"", 1),
        Publish("a", b"", 0, False, True),
        Publish("x" * 65536, b""),
        Publish("ä" * 40000, b""),
        Connect("a\0"),
        Connect("a" * 65536),
        Connect("a", 65536),
        Connect("a", password=b"p"),
        Connect("a", will=Will("+", b"")),
        packets.Subscribe(1, (("a/b#", 0),)),
        packets.Unsubscribe(1, ("",)),
        packets.Puback(0),
        packets.Puback(65536),
    ],
)
def test_what_cannot_be_said_is_refused(packet: Packet) -> None:
    with pytest.raises(ValueError):
        codec.encode(packet)
