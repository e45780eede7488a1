"""Tags: what a video file says beside its pictures, and which of it is of no more than how the file is built."""

import re
from collections.abc import Collection, Mapping

# Tags that FFmpeg's and Matroska's writers set themselves, of no more than how the file is built: name, value.
_OWN_TAGS = [
    (re.compile(name, re.IGNORECASE), re.compile(value))
    for name, value in (
        (r"encoder|software", r"(Lav[fc]|libvpx|x26[45]|GStreamer|mkvmerge)\S*( \S+)?"),
        (r"major_brand|compatible_brands", r"[\w ]{0,64}"),
        (r"minor_version|alpha_mode|(bps|number_of_(frames|bytes))(-[a-z]{3})?", r"\d{1,12}"),
        (r"handler_name", r"(Video|Sound|Subtitle|Data)Handler|"),
        (r"vendor_id", r"\[0\]\[0\]\[0\]\[0\]|FFMP"),
        (r"language", r"[a-z]{3}"),
        (r"duration(-[a-z]{3})?|timecode", r"[\d:;.]{1,24}"),
    )
]
# A known id of so many letters and digits in a row does not stand in compressed pictures by chance.
_TELLING = 8
_WORD = re.compile(rb"[a-z0-9]{%d,}" % _TELLING)


def ids_by_word(ids: Collection[str]) -> dict[bytes, set[bytes]]:
    """Ids in lower case by a word of theirs that is long enough to be looked for in a file's bytes."""
    found: dict[bytes, set[bytes]] = {}
    for one in ids:
        text = one.lower().encode(errors="surrogatepass")
        if words := _WORD.findall(text):
            found.setdefault(max(words, key=len), set()).add(text)
    return found


def ids_in(content: bytes, ids: Mapping[bytes, set[bytes]]) -> list[str]:
    """The ids that stand in the bytes of a file as plain text, whatever part of the file they are in."""
    lower = content.lower()
    words = ids.keys() & set(_WORD.findall(lower))
    return sorted(one.decode(errors="surrogatepass") for word in words for one in ids[word] if one in lower)


def is_own(name: str, value: str) -> bool:
    """Whether a tag is one that the writer of the file sets itself."""
    return any(names.fullmatch(name) and values.fullmatch(value) for names, values in _OWN_TAGS)
