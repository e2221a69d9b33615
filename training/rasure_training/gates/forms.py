"""The gates (TRIM-KV, arXiv 2512.03324; DBTrimKV, arXiv 2605.09649).

A gate sees the normalised input of a layer's attention and gives lambda <= 0 for each KV head: the logarithm of the share that an
entry's worth keeps from one token to the next. lambda = log sigmoid(z). Forms of z, with features f of a trunk of its own in every
layer:

- tied: w . f_head + b, one w and b for all layers and heads, each head with its own part of the features (the paper's form);
- rows: w_head . f + b_head, the same in all layers (the authors' code);
- untied: w_layer,head . f + b_layer,head, of a trunk of one layer (TRIM-KV);
- constant: b_layer,head, which sees nothing.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FORMS = ("tied", "rows", "untied", "constant")
INITIAL_SPREAD = 0.02  # of the weights, as in the models themselves


class Gates(nn.Module):
    def __init__(
        self, form: str, n_layer: int, n_kv_head: int, d_model: int, width: int, head_features: int, bias: float, seed: int
    ) -> None:
        super().__init__()
        self.form, self.n_layer, self.n_kv_head = form, n_layer, n_kv_head
        generator = torch.Generator().manual_seed(seed)

        def matrix(rows: int, columns: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(rows, columns).normal_(0.0, INITIAL_SPREAD, generator=generator))

        layers = range(0 if form == "constant" else n_layer)
        self.first = nn.ParameterList(matrix(width, d_model) for _ in layers)
        self.first_bias = nn.ParameterList(nn.Parameter(torch.zeros(width)) for _ in layers)
        n_features = n_kv_head * head_features if form == "tied" else width
        trunk = layers if form in ("tied", "rows") else range(0)
        self.second = nn.ParameterList(matrix(n_features, width) for _ in trunk)
        self.second_bias = nn.ParameterList(nn.Parameter(torch.zeros(n_features)) for _ in trunk)
        shared = form in ("tied", "rows")
        rows = 1 if form == "tied" else n_kv_head
        columns = head_features if form == "tied" else width
        copies = range(1 if shared else n_layer)
        self.out = nn.ParameterList(matrix(rows, columns) for _ in (copies if form != "constant" else range(0)))
        self.out_bias = nn.ParameterList(nn.Parameter(torch.full((rows,), bias)) for _ in copies)

    def forward(self, layer: int, x: Tensor) -> Tensor:
        """lambda [n_kv_head, n] of normalised inputs x [n, d]."""
        shared = self.form in ("tied", "rows")
        bias = self.out_bias[0 if shared else layer]
        if self.form == "constant":
            return F.logsigmoid(bias[:, None].expand(self.n_kv_head, len(x)))
        features = F.silu(F.linear(x, self.first[layer], self.first_bias[layer]))
        if shared:
            features = F.silu(F.linear(features, self.second[layer], self.second_bias[layer]))
        out = self.out[0 if shared else layer]
        if self.form == "tied":
            z = features.view(len(x), self.n_kv_head, -1) @ out[0] + bias
        else:
            z = F.linear(features, out, bias)
        return F.logsigmoid(z.float()).T
