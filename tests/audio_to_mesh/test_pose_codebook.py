import dataclasses

import torch
import torch.nn.functional as F

from vividtalk_core.audio_to_mesh.pose_codebook import Codebook, HeadPoseVqVae, HeadPoseVqVaeConfig
from vividtalk_core.hub import load_module, save_module

TINY = HeadPoseVqVaeConfig(
    codes=8, common_levels=0, levels=2, face_levels=0, latent=4, face_latent=0, width=8, dilations=(1, 2)
)


def model(seed=0, config=TINY):
    torch.manual_seed(seed)
    book = HeadPoseVqVae(config).eval()
    book.codebook.vectors.normal_().mul_(book.codebook.parts[:, None])
    return book


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_shapes():
    pose = noise(2, 21, 9)
    decoded, latents, quantised, codes = model()(pose)
    assert decoded.shape == pose.shape
    assert latents.shape == quantised.shape == (2, 6, 4)  # ceil(21 / 4) codes
    assert codes.shape == (2, 6, 2)


def test_nearest_is_the_argmin_of_each_level():
    book = model().codebook
    latents = noise(5, 4)
    rest, expected = latents, []
    for level in range(2):
        expected.append((rest[:, None] - book.vectors[level]).norm(dim=-1).argmin(1))
        rest = rest - book.vectors[level][expected[-1]]
    codes = book.nearest(latents)
    assert torch.equal(codes, torch.stack(expected, 1))
    torch.testing.assert_close(book.lookup(codes), latents - rest)
    # one level is the paper's codebook
    torch.testing.assert_close(book.distances(latents, 0).sqrt(), torch.cdist(latents, book.vectors[0]))


def test_both_parts_of_z_are_quantised_by_themselves():
    config = dataclasses.replace(TINY, face_levels=1, face_latent=2)
    book, first, second = model(config=config).codebook, model().codebook, noise(8, 2, seed=1)
    book.vectors[:2, :, :4], book.vectors[2, :, 4:] = first.vectors, second
    latents = noise(5, 6)
    codes = book.nearest(latents)
    assert torch.equal(codes[:, :2], first.nearest(latents[:, :4]))
    assert torch.equal(codes[:, 2], torch.cdist(latents[:, 4:], second).argmin(1))
    book.train().nearest(noise(200, 6))
    assert (book.vectors[:2, :, 4:] == 0).all() and (book.vectors[2, :, :4] == 0).all()
    assert not torch.equal(book.vectors[2, :, 4:], second)  # they follow the latents


def test_the_first_code_describes_both_parts():
    config = dataclasses.replace(TINY, common_levels=1, levels=1, face_levels=1, face_latent=2)
    book = model(config=config).codebook
    assert config.all_levels == 3
    assert (book.parts[0] == 1).all()
    latents = noise(5, 6)
    codes = book.nearest(latents)
    assert torch.equal(codes[:, 0], torch.cdist(latents, book.vectors[0]).argmin(1))
    rest = latents - book.vectors[0][codes[:, 0]]
    assert torch.equal(codes[:, 1], torch.cdist(rest[:, :4], book.vectors[1, :, :4]).argmin(1))
    assert torch.equal(codes[:, 2], torch.cdist(rest[:, 4:], book.vectors[2, :, 4:]).argmin(1))


def test_straight_through():
    latents = noise(3, 4).requires_grad_()
    quantised, codes = model().codebook(latents)
    torch.testing.assert_close(quantised, model().codebook.lookup(codes))
    quantised.sum().backward()
    assert torch.equal(latents.grad, torch.ones(3, 4))


def test_codes_follow_the_means_of_what_chooses_them():
    torch.manual_seed(0)
    book = Codebook(dataclasses.replace(TINY, codes=2, levels=1, latent=2, decay=0.5)).train()
    book.vectors.copy_(torch.tensor([[[1.0, 0.0], [-1.0, 0.0]]]))
    book.counts.fill_(1.0)
    book.sums.copy_(book.vectors)
    latents = torch.tensor([[2.0, 0.0], [3.0, 0.0], [-2.0, 1.0]])
    book.nearest(latents)
    # the averages are (1, sum 1) and (2, sum 5): halfway, 1.5 and 3
    torch.testing.assert_close(book.vectors[0, 0], torch.tensor([2.0, 0.0]))
    torch.testing.assert_close(book.vectors[0, 1], torch.tensor([-1.5, 0.5]))


def test_dead_codes_are_put_where_the_error_is_largest():
    book = Codebook(dataclasses.replace(TINY, codes=3, levels=1, latent=2)).train()
    book.vectors.copy_(torch.tensor([[[0.0, 0.0], [9.0, 9.0], [50.0, 50.0]]]))
    book.counts.copy_(torch.tensor([[10.0, 10.0, 0.0]]))
    book.sums.copy_(book.vectors * book.counts[..., None])
    far = torch.tensor([[-6.0, 0.0]])
    book.nearest(torch.cat((torch.zeros(20, 2), 9 * torch.ones(20, 2), far)))
    torch.testing.assert_close(book.vectors[0, 2], far[0])
    assert book.counts[0, 2] > 1


def test_codes_do_not_move_in_use():
    book = model().codebook
    before = book.vectors.clone()
    book(noise(50, 4))
    assert torch.equal(book.vectors, before)


def test_encoder_depends_on_a_bounded_stretch_around_a_code():
    encoder = model().encoder
    pose = noise(1, 160, 9)
    changed = pose.clone()
    changed[:, 80] += 1
    touched = (encoder(pose) != encoder(changed)).any(-1)[0].nonzero()[:, 0]
    assert touched.min() >= 20 - encoder.reach - 1
    assert touched.max() <= 20 + encoder.reach + 1
    assert 20 in touched


def test_decoder_is_causal_and_forgets():
    book = model()
    latents = noise(1, 60, 4)
    changed = latents.clone()
    changed[:, 30] += 1
    touched = (book.decode_latents(latents) != book.decode_latents(changed)).any(-1)[0].nonzero()[:, 0]
    assert touched.min() == 30 * 4  # the frames of the code itself, none before
    assert touched.max() < (30 + book.decoder.reach + 1) * 4


def test_decode_in_chunks_of_any_size_is_decode_at_once():
    book = model()
    codes = book.encode(noise(1, 150, 9))[0]
    whole = book.decode_latents(book.codebook.lookup(codes)[None])[0]
    for chunk in (1, 7, 38, 64):
        torch.testing.assert_close(book.decode(codes, chunk), whole, atol=1e-6, rtol=1e-5)


def test_a_longer_clip_begins_with_the_same_numbers():
    book = model()
    codes = book.encode(noise(1, 600, 9))[0]
    assert torch.equal(book.decode(codes)[:200], book.decode(codes[:50]))


def test_a_head_held_still_is_one_code_again_and_again():
    book = model()
    still = book.decode(book.encode(noise(1, 1, 9).expand(-1, 80, -1))[0])
    blocks = still.view(20, 4, 9)  # every code plays the same frames
    torch.testing.assert_close(blocks, blocks[:1].expand_as(blocks), atol=1e-6, rtol=1e-5)


def test_save_and_load(tmp_path):
    book = model()
    save_module(tmp_path / "book.safetensors", book, book.config)
    loaded = load_module(HeadPoseVqVae, HeadPoseVqVaeConfig, tmp_path / "book.safetensors")
    pose = noise(1, 40, 9)
    assert loaded.config == TINY
    assert torch.equal(loaded(pose)[0], book(pose)[0])


def test_training_lowers_the_loss():
    book = model().train()
    optimizer = torch.optim.Adam(book.parameters(), 3e-3)
    pose = noise(16, 48, 9).cumsum(1) * 0.3
    losses = []
    for _ in range(90):
        decoded, latents, quantised, _ = book(pose)
        loss = F.mse_loss(decoded, pose)
        (loss + 0.25 * F.mse_loss(latents, quantised.detach())).backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    assert book.codebook.counts.count_nonzero() > 8  # several codes of both levels are in use
