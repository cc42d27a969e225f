"""The selective scan as its formula reads: one step after the other, differentiated by torch."""

import torch


def naive_scan(u_BGLD, delta_BGLD, A_GDN, B_BGLN, C_BGLN, D_GD):
    decays_BGLDN = (delta_BGLD[..., None] * A_GDN[:, None]).exp()
    entries_BGLDN = (delta_BGLD * u_BGLD)[..., None] * B_BGLN[..., None, :]
    state_BGDN, outputs = torch.zeros_like(entries_BGLDN[:, :, 0]), []
    # Unbound at once: the gradient of an index would be a tensor of the whole sequence, for every step.
    for decay, entry, read in zip(decays_BGLDN.unbind(2), entries_BGLDN.unbind(2), C_BGLN.unbind(2), strict=True):
        state_BGDN = decay * state_BGDN + entry
        outputs.append((state_BGDN * read[..., None, :]).sum(-1))
    return torch.stack(outputs, 2) + D_GD[:, None] * u_BGLD
