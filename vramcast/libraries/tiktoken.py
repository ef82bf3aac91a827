"""tiktoken's encodings without their files: each byte is a token, never fewer than really."""

from types import ModuleType

from vramcast.libraries.context import Context
from vramcast.when_imported import when_imported

# Tokens of each file, by how its address ends, without the special ones. From what the encodings
# say in tiktoken_ext/openai_public.py: n_vocab is one more than the largest of both.
TOKENS = {
    "vocab.bpe": 50_256,
    "r50k_base.tiktoken": 50_256,
    "p50k_base.tiktoken": 50_280,
    "cl100k_base.tiktoken": 100_256,
    "o200k_base.tiktoken": 199_998,
}
BYTES = (
    "an encoding of tiktoken that is not here makes a token of each byte, where real ones make "
    "fewer: its texts may be shorter"
)


def install(context: Context) -> None:
    """Let tiktoken make its encodings where their files are neither here nor can be fetched."""

    def loading(module: ModuleType) -> None:
        for name in ("data_gym_to_mergeable_bpe_ranks", "load_tiktoken_bpe"):
            setattr(module, name, _or_bytes(getattr(module, name), context.notes))

    when_imported("tiktoken.load", loading)


def _or_bytes(load, notes: list[str]):
    def loaded(file: str | None = None, *args, **options) -> dict[bytes, int]:
        file = options.pop("vocab_bpe_file", file) if file is None else file
        try:
            return load(file, *args, **options)
        except OSError:
            count = TOKENS.get(file.rpartition("/")[2])
            if count is None:
                raise
        notes.append(BYTES)
        # the rest stands for what no text has: five bytes that no merge of two others makes
        rest = {b"\xff" + number.to_bytes(4): number for number in range(256, count)}
        return {bytes([number]): number for number in range(256)} | rest

    return loaded
