"""The coordinate encoder for rasterization: the same function with less work per cell.

Scales and shifts of norms, the scale of queries and the rotation are folded into the linear layers
next to them, and the last block computes only the tokens that the readout uses. Phases stay in
float64; residual sums and the readout are in float32; products may be in bfloat16.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Float32, Float64
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm, linear, normalize, scaled_dot_product_attention

from unigeo.producer.encoders.coordinates import Block, CoordinateEncoder
from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.schemas.geo.sequences import r2_sequence

WIDE = 256
"""Least width of tokens for products in bfloat16; smaller encoders are fast in float32."""
LOWEST_COSINE = 0.9999
"""Least cosine between a vector in bfloat16 and the model's own; below it products are float32."""
_TEST_POINTS = 32
_CPU_FLAGS = {"avx512_bf16", "amx_bf16"}
"""Flags of /proc/cpuinfo for bfloat16 products in hardware; emulation is slower than float32."""

Tokens = Float[Tensor, "point token width"]
ReadTokens = Float[Tensor, "point read width"]
"""The tokens that the readout uses, or all of them."""
Attention = Callable[[ReadTokens, Tokens, Tokens, int], ReadTokens]
"""Function of scaled queries, keys, values and the number of heads."""


CellEncoder = Callable[[Float64[Tensor, "point 2"]], Float32[Tensor, "point dimension"]]
"""Function from degrees, longitude first, to unit vectors."""


class FoldedLinear(NamedTuple):
    """Weights of a linear layer."""

    weight: Float[Tensor, "out in"]
    bias: Float[Tensor, " out"]


class FoldedBlock(NamedTuple):
    """Weights of a `Block` whose norms have no scale and shift of their own."""

    query_key_value: FoldedLinear
    attention_out: FoldedLinear
    widen: FoldedLinear
    narrow: FoldedLinear


def fold(
    model: UniGeoCLIP, precision: torch.dtype = torch.float32, *, compiled: bool = False
) -> CellEncoder:
    """Return a function equal to `model.encode("coordinate", lonlat)`, on the model's device.

    Encoders of other kinds than `scales` cost little and stay unfolded, in float32.

    Args:
        model: whose weights are copied.
        precision: of the products.
        compiled: compile the blocks; all batches of points must then have one size.
    """
    encoder = model.encoders["coordinate"]
    if isinstance(encoder, CoordinateEncoder):
        return FoldedEncoder(encoder, model.rotation, precision, compiled=compiled)
    return partial(model.encode, "coordinate")


def cell_encoder(model: UniGeoCLIP) -> CellEncoder:
    """Fold for rasterization, in bfloat16 if the device is faster in it and vectors hardly change.

    The choice depends on the model and the kind of device alone, so that machines of one kind write
    the same bytes.
    """
    device = model.rotation.device
    settings = model.settings.coordinate
    assert settings is not None, "the model has a coordinate encoder"
    if settings.kind != "scales" or not gains_from_bfloat16(device, settings.width):
        return fold(model, compiled=device.type == "cuda")
    share = r2_sequence(_TEST_POINTS)  # points all over the globe, the same on every machine
    lonlat = torch.from_numpy(share * [360.0, 180.0] - [180.0, 90.0]).to(device)
    rounded = fold(model, torch.bfloat16)(lonlat)
    with torch.inference_mode():
        lowest = (rounded * model.encode("coordinate", lonlat)).sum(dim=1).min().item()
    precision = torch.bfloat16 if lowest >= LOWEST_COSINE else torch.float32
    return fold(model, precision, compiled=device.type == "cuda")


def gains_from_bfloat16(device: torch.device, width: int) -> bool:
    """Return whether the device multiplies tokens of that width faster in bfloat16."""
    if width < WIDE:
        return False
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and bool(_CPU_FLAGS & cpu_flags())


def cpu_flags() -> set[str]:
    """Return the processor's features by their names in Linux; empty on other systems."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return set()
    return set(next((line.split() for line in lines if line.startswith("flags")), ()))


class FoldedEncoder:
    """`CoordinateEncoder`, then the model's rotation, then unit length."""

    def __init__(
        self,
        encoder: CoordinateEncoder,
        rotation: Float32[Tensor, "dimension dimension"],
        precision: torch.dtype = torch.float32,
        *,
        attention: Attention | None = None,
        compiled: bool = False,
    ) -> None:
        """Copy and fold the weights; `attention` is `product` unless another is given."""
        settings = encoder.settings
        scales = len(settings.sigmas)
        self.precision = precision
        self._encoder = encoder
        self._attention, self._heads = attention or product, settings.heads
        self._averages = settings.readout != "concat"
        # Registers follow the tokens of the scales.
        self._read = slice(scales, None) if settings.readout == "registers" else slice(scales)
        perceptrons: Any = encoder.scale_perceptrons
        blocks: Any = encoder.blocks
        with torch.no_grad():
            self._perceptrons = [
                [_copy_linear(layer, precision) for layer in net.linears] for net in perceptrons
            ]
            self._blocks = [_fold_block(block, precision) for block in blocks]
            self._readout = _fold_readout(encoder, rotation)
            self._registers = encoder.registers.detach().clone()
            embedding = encoder.scale_embedding
            self._embedding = None if embedding is None else embedding.detach().clone()
        self._block, self._last_block = _block, _last_block
        if compiled:
            self._block, self._last_block = (
                torch.compile(one, dynamic=False) for one in (_block, _last_block)
            )

    @torch.inference_mode()
    def __call__(self, lonlat: Float64[Tensor, "point 2"]) -> Float32[Tensor, "point dimension"]:
        """Encode points as unit vectors."""
        return self.attend(self._encoder.tokens(lonlat))

    def attend(
        self, tokens: Float32[Tensor, "point scale width"]
    ) -> Float32[Tensor, "point dimension"]:
        """Encode points, given the Fourier features of each scale."""
        if self._perceptrons:
            each = zip(self._perceptrons, tokens.to(self.precision).unbind(1), strict=True)
            tokens = torch.stack([_perceptron(token, layers) for layers, token in each], dim=1)
        if self._embedding is not None:
            tokens = tokens + self._embedding
        tokens = torch.cat([tokens, self._registers.expand(len(tokens), -1, -1)], dim=1)
        attention = (self._attention, self._heads)
        for block in self._blocks[:-1]:
            tokens = self._block(tokens, block, *attention)
        if self._blocks:
            last = self._blocks[-1]
            read = self._last_block(tokens, last, *attention, self._read, self._averages)
        else:
            read = tokens[:, self._read]
            read = read.mean(1) if self._averages else read
        summary = layer_norm(read, read.shape[-1:]).flatten(1)
        return normalize(linear(summary, *self._readout), dim=-1)


def product(query: ReadTokens, key: Tokens, value: Tokens, heads: int) -> ReadTokens:
    """Attend as product, softmax, product: for ten tokens faster than a fused kernel."""
    query, key, value = (_split_heads(tokens, heads) for tokens in (query, key, value))
    scores = query @ key.transpose(-1, -2)
    return (scores.softmax(dim=-1) @ value).transpose(1, 2).flatten(2)


def fused(query: ReadTokens, key: Tokens, value: Tokens, heads: int) -> ReadTokens:
    """Attend by torch's own kernel."""
    query, key, value = (_split_heads(tokens, heads) for tokens in (query, key, value))
    joined: Tensor = scaled_dot_product_attention(query, key, value, scale=1.0)
    return joined.transpose(1, 2).flatten(2)


def _split_heads(tokens: Tokens, heads: int) -> Float[Tensor, "point head token channel"]:
    split: Tensor = tokens.unflatten(-1, (heads, -1))
    return split.transpose(1, 2)


def _block(tokens: Tokens, block: FoldedBlock, attention: Attention, heads: int) -> Tokens:
    tokens = _attend(tokens, block, attention, heads, None)
    added: Tensor = linear(_mlp_hidden(tokens, block), *block.narrow)
    return tokens + added


def _last_block(
    tokens: Tokens,
    block: FoldedBlock,
    attention: Attention,
    heads: int,
    read: slice,
    averages: bool,
) -> Float32[Tensor, "point *token width"]:
    """Return the tokens of `read` after the block, or their mean."""
    tokens = _attend(tokens, block, attention, heads, read)
    hidden = _mlp_hidden(tokens, block)
    if averages:
        # The last layer is linear, so that the mean can be taken before it, on one token a point.
        tokens, hidden = tokens.mean(1), hidden.mean(1)
    return tokens + linear(hidden, *block.narrow)


def _attend(
    tokens: Tokens, block: FoldedBlock, attention: Attention, heads: int, read: slice | None
) -> ReadTokens:
    """Apply the block's attention; only tokens of `read`, or all, are queries and come back."""
    width = tokens.shape[-1]
    weight, bias = block.query_key_value
    normed = layer_norm(tokens, (width,)).to(weight.dtype)
    if read is None:
        query, key, value = linear(normed, weight, bias).chunk(3, dim=-1)
    else:
        # A view would become a batched product, which copies the weights for every point.
        queried = normed[:, read].contiguous()
        query = linear(queried, weight[:width], bias[:width])
        key, value = linear(normed, weight[width:], bias[width:]).chunk(2, dim=-1)
        tokens = tokens[:, read]
    added: Tensor = linear(attention(query, key, value, heads), *block.attention_out)
    return tokens + added  # float32, also where `added` is bfloat16


def _mlp_hidden(tokens: Tokens, block: FoldedBlock) -> Float[Tensor, "point token hidden"]:
    normed = layer_norm(tokens, tokens.shape[-1:]).to(block.widen.weight.dtype)
    return gelu(linear(normed, *block.widen))


def _perceptron(
    token: Float[Tensor, "point width"], layers: list[FoldedLinear]
) -> Float32[Tensor, "point width"]:
    *hidden, head = layers
    for layer in hidden:
        token = gelu(linear(token, *layer))
    return linear(token, *head).float()


def _fold_block(block: Block, precision: torch.dtype) -> FoldedBlock:
    width = block.attention_out.in_features
    query_key_value = _fold_norm(block.attention_norm, block.query_key_value)
    for part in query_key_value:  # weight and bias; their first `width` rows make the queries
        part[:width] *= (width // block.heads) ** -0.5
    mlp: Any = block.mlp
    widen, _, narrow = mlp
    return FoldedBlock(
        _cast(query_key_value, precision),
        _copy_linear(block.attention_out, precision),
        _cast(_fold_norm(block.mlp_norm, widen), precision),
        _copy_linear(narrow, precision),
    )


def _fold_readout(
    encoder: CoordinateEncoder, rotation: Float32[Tensor, "dimension dimension"]
) -> FoldedLinear:
    """Fold norm, projection and rotation into one layer, in float32 as it is small."""
    width = encoder.norm.normalized_shape[0]
    layer: Any = encoder.projection
    if not isinstance(layer, nn.Linear):  # no projection is needed: the identity
        size = len(rotation)
        layer = FoldedLinear(torch.eye(size, device=rotation.device), rotation.new_zeros(size))
    tokens = layer.weight.shape[1] // width  # more than one where the readout concatenates
    weight, bias = _fold_norm(encoder.norm, layer, tokens)
    # vectors @ rotation, as rows of a linear layer: rotation.T @ (weight @ x + bias).
    turn = rotation.T.double()
    return _cast(FoldedLinear(turn @ weight, turn @ bias), torch.float32)


def _fold_norm(norm: nn.LayerNorm, layer: Any, tokens: int = 1) -> FoldedLinear:
    """Fold a norm's scale and shift into the linear layer after it, in float64.

    W (scale * x + shift) + b = (W * scale) x + (b + W shift); `tokens` are normed one by one and
    then concatenated.
    """
    weight, scale, shift = layer.weight.double(), norm.weight.double(), norm.bias.double()
    return FoldedLinear(
        weight * scale.repeat(tokens), layer.bias.double() + weight @ shift.repeat(tokens)
    )


def _copy_linear(layer: nn.Linear, precision: torch.dtype) -> FoldedLinear:
    return _cast(FoldedLinear(layer.weight, layer.bias), precision)


def _cast(layer: FoldedLinear, precision: torch.dtype) -> FoldedLinear:
    """Copy the weights in another precision; also where they have it already."""
    weight, bias = (part.detach().to(precision, copy=True).contiguous() for part in layer)
    return FoldedLinear(weight, bias)
