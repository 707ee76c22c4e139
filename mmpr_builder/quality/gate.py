"""Which DropoutNTP continuations are fit to be rejected.

    near_equal      it says what the response itself said: nothing to learn from the pair
    missing_image   "I cannot see the image": true without one, and no error to learn from
    loop            it goes round in circles
    runaway         several times as long as what it stands for

That a continuation equals the response, was cut, or is still right where the truth is known, is
pairing's own to see (pairing/candidates.py).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from mmpr_builder.quality.loops import find_loop
from mmpr_builder.quality.words import similarity, words
from mmpr_builder.records import Continuation, Response

NEAR_EQUAL = 0.9
"""Share of words in common with the part of the response that was cut off."""
RUNAWAY_FACTOR = 4.0
"""Longest continuation, as a multiple of what was cut off."""
RUNAWAY_TOKENS = 256
"""Below so many tokens a continuation is not called a runaway, whatever it stands for."""

_PICTURE = r"(?:image|picture|photo|photograph|figure|diagram|chart)s?"
_SHOWN = r"(?:provided|attached|available|visible|included|uploaded|supplied|given|shown|displayed)"
_DET = r"(?:the |an? |any |this |that |your |actual |provided |attached |original )*"
_ENGLISH = re.compile(
    rf"(?:can ?not|can'?t|could not|couldn'?t|unable to|not able to|don'?t|do not|didn'?t)"
    rf" (?:actually |directly |currently )?(?:see|view|access|open|have access to|receive|load)"
    rf" {_DET}{_PICTURE}\b(?! of| with| showing)"
    rf"|\b(?:no|without) {_DET}{_PICTURE} (?:was |is |were |has been |have been |being )?{_SHOWN}"
    rf"|there (?:is|was|seems to be|appears to be) no {_DET}{_PICTURE}(?: {_SHOWN}|\s*[.,;:!]|\s*$)"
    rf"|{_PICTURE} (?:is|was|are|were|seems to be|appears to be|has been)"
    rf" (?:missing|not (?:been )?{_SHOWN}|unavailable)"
    rf"|please (?:provide|upload|attach|share|send)(?: me| us)? {_DET}{_PICTURE}\b"
    rf"|(?:without|no access to|unless) (?:i |we )?(?:seeing|viewing|access to|having|being able to"
    rf" (?:see|view)|can (?:see|view))? ?{_DET}{_PICTURE}, i (?:can|could|am|will)"
    rf"|since (?:there is no|i (?:have no|lack)) {_DET}{_PICTURE}"
    rf"|(?:based on|from) the (?:text|description) alone,? (?:as|since|because)"
    rf" .{{0,40}}{_PICTURE}",
    re.IGNORECASE,
)
_TU = r"(?:图片|图像|照片|图形|题图|插图)"
_CHINESE = re.compile(
    rf"(?:没有|未能?|并未|尚未)(?:提供|看到|看见|收到|上传|附上|给出|附)(?:任何|该|这张|相关|具体)?的?{_TU}"
    rf"|(?:无法|不能|没法|没办法)(?:直接|实际)?(?:看到|看见|查看|访问|获取|打开|加载|显示)"
    rf"(?:这张|该|任何|到|您提供的|你提供的|您上传的|题目中的)?{_TU}"
    rf"|看不(?:到|见)(?:这张|该|任何|您提供的|题目中的)?{_TU}"
    rf"|{_TU}(?:缺失|丢失|未(?:能)?(?:提供|上传|显示|加载|给出)|没有(?:提供|上传|显示|加载|给出)"
    rf"|无法(?:显示|查看|看到|加载))"
    rf"|请(?:您|你)?(?:先|重新)?(?:提供|上传|发送|附上)(?:一张|这张|该)?(?:相关|清晰|完整)?的?{_TU}"
    rf"|(?:由于|因为)(?:我)?(?:没有|缺少|缺乏|不存在){_TU}"
)


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a text: `reason` is a word for counting, `detail` says it."""

    reason: str
    detail: str


def misses_image(text: str) -> str | None:
    """What a text says of an image that it does not have, in English or Chinese, or None."""
    found = _ENGLISH.search(text.replace("’", "'")) or _CHINESE.search(text)
    return found[0] if found else None


def continuation_fault(response: Response, continuation: Continuation) -> Fault | None:
    """Why a continuation of a response is not fit to be rejected; None if it is.

    Only what the continuation adds is looked at. A response that speaks of a missing image itself
    makes no fault of it: then the model did so while it saw the image.
    """
    missed = misses_image(continuation.text)
    if missed is not None and misses_image(response.text) is None:
        return Fault("missing_image", missed)
    looped = find_loop(continuation.text)
    if looped is not None:
        return Fault("loop", looped)
    rest = _cut_off(response, continuation)
    alike = similarity(words(continuation.text), words(rest), NEAR_EQUAL) if rest.strip() else 0.0
    if alike >= NEAR_EQUAL:
        return Fault("near_equal", f"{alike:.2f} of the words in common")
    share = min(1.0, len(rest) / max(1, len(response.text)))
    expected = max(1.0, share * response.tokens)
    if continuation.tokens > max(RUNAWAY_TOKENS, RUNAWAY_FACTOR * expected):
        return Fault("runaway", f"{continuation.tokens} tokens for {expected:.0f}")
    return None


@dataclass(frozen=True, slots=True)
class GateYield:
    """What became of the continuations at one ratio."""

    keep: float
    continuations: int
    faults: dict[str, int]
    """Reason -> count, by name."""

    @property
    def fit(self) -> int:
        """How many can be rejected."""
        return self.continuations - sum(self.faults.values())


def gate_yield(fates: Mapping[tuple[float, str], int]) -> list[GateYield]:
    """Continuations and faults by the ratio that was kept, in rising order.

    `fates` counts continuations by ratio and reason; the reason of one that is fit is "".
    """
    found = []
    for ratio in sorted({keep for keep, _ in fates}):
        counts = {reason: n for (keep, reason), n in sorted(fates.items()) if keep == ratio}
        faults = {reason: n for reason, n in counts.items() if reason}
        found.append(GateYield(ratio, sum(counts.values()), faults))
    return found


def _cut_off(response: Response, continuation: Continuation) -> str:
    """What the response itself said where the continuation begins."""
    prefix = continuation.prefix
    return response.text[len(prefix) :] if response.text.startswith(prefix) else response.text
