import torch

from lightning_dropout.models.transformer.text_stream import TextStream


def pieces_of(data, decode):
    pieces = []
    stream = TextStream(decode, pieces.append)
    for token in data:
        stream(torch.tensor([token]))
    return pieces, stream


def test_a_character_waits_for_its_last_byte():
    pieces, stream = pieces_of("a€b".encode(), lambda ids: bytes(ids).decode(errors="replace"))
    assert pieces == ["a", "€", "b"]
    stream.close()
    assert pieces == ["a", "€", "b"]


def test_what_stays_unfinished_is_handed_on_at_the_end():
    pieces, stream = pieces_of("a€".encode()[:-1], lambda ids: bytes(ids).decode(errors="replace"))
    assert pieces == ["a"]
    stream.close()
    assert pieces == ["a", "\N{REPLACEMENT CHARACTER}"]
