"""Parts of training: loss, mixture, start, schedule and settings."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional
import yaml

from worldvla_ros.checkpoint.folder import sequence_builder
from worldvla_ros.errors import ConfigError
from worldvla_ros.learn.batches import IGNORE, Example, Mixture, TokenEpisode, collate, thin
from worldvla_ros.learn.forward import Outputs, forward
from worldvla_ros.learn.grounding import Grounding, first_patches, prompt_ends
from worldvla_ros.learn.landmarks import Landmarks, patch_targets
from worldvla_ros.learn.loss import CrossEntropy, ZLoss, bin_targets, token_figures
from worldvla_ros.learn.objective import Objective, Term
from worldvla_ros.learn.runs import Run
from worldvla_ros.learn.settings import ModelTraining, read_settings
from worldvla_ros.learn.start import start_distances, start_tables, waves
from worldvla_ros.learn.trainer import trapezoid
from worldvla_ros.model.masks import sequence_mask
from worldvla_ros.model.transformer import Transformer
from worldvla_ros.tokenizers.vocab import BINS, PUBLISHED

HORIZON, ACTIONS_PER_IMAGE, GRID = 4, 2, 4
BLOCK = 9
SENTENCES = ('pick up the red cube', 'robot, try to take the blue block off the table')
CPU = torch.device('cpu')


@pytest.fixture(scope='module')
def vocab(tiny_spec):
    return tiny_spec.vocabulary


@pytest.fixture
def scored(vocab):
    """Random scores of every kind of label: codes, action bins, and others."""
    generator = torch.Generator().manual_seed(0)
    codes = vocab.code_base + torch.arange(0, vocab.codebook_size, 5)
    bins = vocab.action_bin_base + torch.tensor([1, 2, 100, 255, 256])
    others = torch.tensor([vocab.sep, vocab.new_line, vocab.action_start, vocab.state_start])
    labels = torch.cat([codes, bins, others])
    return 3 * torch.randn(len(labels), vocab.size, generator=generator), labels


def is_code(labels, vocab):
    return (labels >= vocab.code_base) & (labels < vocab.code_base + vocab.codebook_size)


def is_bin(labels, vocab):
    return (labels > vocab.action_bin_base) & (labels <= vocab.action_bin_base + BINS)


def not_in(token, span):
    return not span.start <= token < span.stop


def cross_entropy(vocab, logits, labels, image_weight=1.0, bin_spread=0.0):
    return CrossEntropy(vocab, image_weight, bin_spread)(Outputs(logits, labels))


class TestLoss:
    def test_without_extras_it_is_cross_entropy(self, vocab, scored):
        expected = functional.cross_entropy(*scored)
        torch.testing.assert_close(cross_entropy(vocab, *scored), expected)

    def test_the_span_of_class_weights_is_that_of_the_codes_or_the_references(self):
        last = PUBLISHED.code_base + PUBLISHED.codebook_size - 1
        labels = torch.tensor([PUBLISHED.code_base - 1, PUBLISHED.code_base, last, last + 1])
        ours, reference = (CrossEntropy(PUBLISHED, 0.04, 0.0, s) for s in (False, True))
        ones = [w == 1 for w in ours.class_weights(labels).tolist()]
        assert ones == [True, False, False, True]
        ones = [w == 1 for w in reference.class_weights(labels).tolist()]
        assert ones == [False, False, True, True]

    @pytest.mark.parametrize('weight', [0.0, 0.3, 2.0])
    def test_image_codes_weigh_what_they_are_told_to(self, vocab, scored, weight):
        logits, labels = scored
        each = functional.cross_entropy(logits, labels, reduction='none')
        weights = torch.where(is_code(labels, vocab), weight, 1.0)
        expected = (each * weights).sum() / weights.sum()
        torch.testing.assert_close(cross_entropy(vocab, logits, labels, weight), expected)

    def test_large_scores_are_penalised(self, vocab, scored):
        logits, labels = scored
        expected = logits.logsumexp(-1).square().mean()
        torch.testing.assert_close(ZLoss(0.01)(Outputs(logits, labels)), expected)

    def test_a_spread_bin_is_cross_entropy_with_soft_targets(self, vocab, scored):
        logits, labels = scored
        chosen = is_bin(labels, vocab)
        logits, labels = logits[chosen], labels[chosen]
        targets = torch.zeros_like(logits)
        first = vocab.action_bin_base + 1
        targets[:, first : first + BINS] = bin_targets(1.5, CPU)[labels - first]
        expected = functional.cross_entropy(logits, targets)
        found = cross_entropy(vocab, logits, labels, bin_spread=1.5)
        torch.testing.assert_close(found, expected)

    def test_spreading_changes_nothing_but_action_bins(self, vocab, scored):
        logits, labels = scored
        chosen = ~is_bin(labels, vocab)
        one_hot, spread = (
            cross_entropy(vocab, logits[chosen], labels[chosen], bin_spread=s) for s in (0.0, 1.5)
        )
        torch.testing.assert_close(one_hot, spread)

    def test_a_miss_by_one_bin_costs_less_than_a_miss_by_many(self, vocab):
        labels = torch.tensor([vocab.action_bin_base + 100])
        logits = torch.zeros(3, vocab.size)
        for row, bin_number in enumerate((100, 101, 130)):
            logits[row, vocab.action_bin_base + bin_number] = 10.0
        hit, near, far = (
            cross_entropy(vocab, row[None], labels, bin_spread=1.5) for row in logits
        )
        assert hit < near < far

    def test_the_ids_beside_the_bins_are_never_spread(self, vocab):
        labels = torch.tensor([vocab.action_bins.start - 1, vocab.action_bins.stop])
        logits = torch.randn(2, vocab.size, generator=torch.Generator().manual_seed(1))
        expected = functional.cross_entropy(logits, labels)
        found = cross_entropy(vocab, logits, labels, bin_spread=1.5)
        torch.testing.assert_close(found, expected)

    def test_a_spread_below_one_bin_counts(self, vocab):
        labels = torch.tensor([vocab.action_bin_base + 100])
        logits = torch.randn(1, vocab.size, generator=torch.Generator().manual_seed(1))
        found = cross_entropy(vocab, logits, labels, bin_spread=0.8)
        assert not torch.isclose(found, functional.cross_entropy(logits, labels))

    def test_by_default_nothing_is_spread_and_the_span_is_that_of_the_codes(self, vocab, scored):
        default = CrossEntropy(vocab, 0.3)(Outputs(*scored))
        torch.testing.assert_close(default, cross_entropy(vocab, *scored, 0.3, 0.0))

    @pytest.mark.parametrize('spread', [0.5, 1.5, 5.0])
    def test_bin_targets_sum_to_one_and_peak_at_the_true_bin(self, spread):
        targets = bin_targets(spread, CPU)
        assert targets.shape == (BINS, BINS)
        torch.testing.assert_close(targets.sum(-1), torch.ones(BINS))
        assert targets.argmax(-1).tolist() == list(range(BINS))

    def test_bin_targets_have_the_width_they_are_told(self):
        offsets = torch.arange(BINS) - 128.0
        variance = (bin_targets(3.0, CPU)[128] * offsets**2).sum()
        assert variance == pytest.approx(9.0, rel=1e-3)


NOWHERE = np.full(5, np.nan, np.float32)


@pytest.fixture(scope='module')
def sequences(tiny_checkpoint):
    return sequence_builder(tiny_checkpoint.spec, tiny_checkpoint.text)


def token_episode(length, codebook_size=32):
    rng = np.random.default_rng(length)
    return TokenEpisode(
        codes=rng.integers(0, codebook_size, (length + 1, 1, GRID, GRID), np.int16),
        state=rng.uniform(0, 0.1, (length + 1, 7)).astype(np.float32),
        action=rng.uniform(-1, 1, (length, 7)).astype(np.float32),
        executed=rng.uniform(-1, 1, (length, 7)).astype(np.float32),
        target=rng.uniform(0, 0.5, (length + 1, 5)).astype(np.float32),
        instruction=lambda rng: SENTENCES[rng.integers(2)],
    )


@pytest.fixture
def mixture(sequences):
    return Mixture(
        episodes=(token_episode(6), token_episode(9)),
        sequences=sequences,
        horizon=HORIZON,
        actions_per_image=ACTIONS_PER_IMAGE,
        action_share=0.75,
        actions_kept=2,
    )


def whole_sequence(sequences, episode):
    codes = list(episode.codes[0])
    prompt = sequences.action_prompt('pick up the red cube', codes, episode.state[0])
    return sequences.with_actions(prompt, episode.action[:HORIZON])


class TestMixture:
    def test_each_task_has_its_share_and_its_batch(self, mixture, vocab):
        action, world = mixture.batches(8, np.random.default_rng(0))
        assert (len(action.ids), len(world.ids)) == (6, 2)
        for batch in (action, world):
            shapes = {t.shape for t in (batch.ids, batch.positions, batch.roles, batch.labels)}
            assert shapes == {batch.ids.shape}
            assert batch.ids.dtype == batch.labels.dtype == torch.int64
            assert batch.targets.shape == (len(batch.ids), 5)
        assert action.targets.isfinite().all()
        assert not world.targets.isfinite().any()
        assert (action.labels == vocab.action_start).sum() == 6 * 2
        assert (world.labels == vocab.image_start).sum() == 2

    @pytest.mark.parametrize(('share', 'start'), [(1.0, 'action_start'), (0.0, 'image_start')])
    def test_a_share_of_all_or_nothing_leaves_one_batch(self, mixture, vocab, share, start):
        (batch,) = replace(mixture, action_share=share).batches(5, np.random.default_rng(0))
        assert len(batch.ids) == 5
        assert (batch.labels == getattr(vocab, start)).any(1).all()

    def test_labels_are_the_ids_of_responses_and_nothing_else(self, mixture):
        rng = np.random.default_rng(0)
        drawn = [mixture.action_sequence(e, rng) for e in mixture.episodes * 3]
        drawn += [mixture.world_sequence(e, rng) for e in mixture.episodes]
        batch = collate(drawn, pad=1)
        for row, sequence in enumerate(e.sequence for e in drawn):
            length, prompt = len(sequence.ids), sequence.prompt_length
            assert (batch.labels[row, :prompt] == IGNORE).all()
            assert batch.labels[row, prompt:length].tolist() == sequence.ids[prompt:].tolist()
            assert (batch.labels[row, length:] == IGNORE).all()

    def test_padding_comes_after_everything_else(self, mixture, vocab):
        (batch, _) = mixture.batches(16, np.random.default_rng(1))
        assert (batch.positions.diff(dim=1) > 0).all()
        padding = batch.ids == vocab.pad
        assert padding.any()
        assert (padding.int().diff(dim=1) >= 0).all()

    def test_an_action_sequence_holds_the_experts_actions_from_its_step(self, mixture, sequences):
        episode, found = mixture.episodes[1], set()
        mixture = replace(mixture, actions_kept=HORIZON)
        for seed in range(40):
            example = mixture.action_sequence(episode, np.random.default_rng(seed))
            sequence = example.sequence
            assert example.positions.tolist() == list(range(len(sequence.ids)))
            blocks = sequence.ids[sequence.prompt_length : -1].reshape(HORIZON, BLOCK)
            actions = sequences.action.decode(blocks)
            start = np.abs(episode.action - actions[0]).max(1).argmin()
            steps = np.minimum(start + np.arange(HORIZON), episode.length - 1)
            np.testing.assert_allclose(actions, episode.action[steps], atol=0.008)
            found.add(int(start))
        assert found == set(range(episode.length))

    def test_a_world_sequence_ends_in_the_image_that_followed(self, mixture, sequences):
        episode = mixture.episodes[0]
        for seed in range(30):
            sequence = mixture.world_sequence(episode, np.random.default_rng(seed)).sequence
            length = sequences.image.block_length(GRID, GRID)
            before = sequences.image.decode(first_image(sequence.ids, sequences, length))
            after = sequences.image.decode(sequence.ids[-1 - length : -1])
            start = next(i for i, c in enumerate(episode.codes) if (c[0] == before).all())
            np.testing.assert_array_equal(after, episode.codes[start + ACTIONS_PER_IMAGE][0])
            end = sequence.prompt_length - 1
            ids = sequence.ids[end - ACTIONS_PER_IMAGE * BLOCK : end]
            executed = sequences.action.decode(ids.reshape(-1, BLOCK))
            wanted = episode.executed[start : start + ACTIONS_PER_IMAGE]
            np.testing.assert_allclose(executed, wanted, atol=0.008)

    def test_batches_follow_their_seed(self, mixture):
        first, again, other = (
            mixture.batches(8, np.random.default_rng(seed))[0].ids for seed in (0, 0, 1)
        )
        assert torch.equal(first, again)
        assert first.shape != other.shape or not torch.equal(first, other)

    def test_long_episodes_are_drawn_more_often(self, mixture):
        mixture = replace(mixture, episodes=(token_episode(2), token_episode(18)))
        counts = {2: 0, 18: 0}

        def count(episode, rng):
            counts[episode.length] += 1
            return mixture.action_sequence(episode, rng)

        mixture._draw(count, 300, np.random.default_rng(0))
        assert 0.84 < counts[18] / 300 < 0.96


def first_image(ids, sequences, length):
    start = int(np.flatnonzero(ids == sequences.vocab.image_start)[0])
    return ids[start : start + length]


class TestThinning:
    @pytest.mark.parametrize('kept', [[1], [4], [2, 3], [3, 1, 4]])
    def test_what_is_kept_keeps_ids_and_positions(self, sequences, kept):
        whole = whole_sequence(sequences, token_episode(6))
        thinned, positions = thin(whole, np.array(kept))
        assert len(thinned.ids) == len(whole.ids) - BLOCK * (HORIZON - len(kept))
        assert thinned.prompt_length == whole.prompt_length
        assert set(thinned.roles) == {0, *kept}
        np.testing.assert_array_equal(thinned.ids, whole.ids[positions])
        np.testing.assert_array_equal(thinned.roles, whole.roles[positions])

    def test_keeping_all_changes_nothing(self, sequences):
        whole = whole_sequence(sequences, token_episode(6))
        thinned, positions = thin(whole, np.arange(1, HORIZON + 1))
        np.testing.assert_array_equal(thinned.ids, whole.ids)
        assert positions.tolist() == list(range(len(whole.ids)))

    @pytest.mark.parametrize('kept', [[1], [4], [2, 4], [1, 2, 3]])
    def test_scores_of_kept_actions_are_those_of_the_whole_chunk(
        self, tiny_checkpoint, sequences, kept
    ):
        model = tiny_checkpoint.model
        whole = whole_sequence(sequences, token_episode(6))
        thinned, places = thin(whole, np.array(kept))
        scores = []
        for sequence, positions in ((whole, np.arange(len(whole.ids))), (thinned, places)):
            batch = collate([Example(sequence, positions, NOWHERE)], pad=1)
            mask = sequence_mask(batch.positions, batch.roles)
            made = model.logits(model(batch.ids, batch.positions, mask))
            scores.append(made[0, : len(positions)])
        same = thinned.roles > 0
        torch.testing.assert_close(scores[1][same], scores[0][places[same]], rtol=0, atol=1e-4)
        other = scores[0][places[same]].roll(1, 0)
        assert (scores[1][same] - other).abs().max() > 0.1

    def test_scores_do_not_depend_on_padding(self, tiny_checkpoint, sequences):
        whole = whole_sequence(sequences, token_episode(6))
        short = Example(*thin(whole, np.array([2])), NOWHERE)
        long = Example(*thin(whole, np.array([1, 2, 3])), NOWHERE)
        model = tiny_checkpoint.model
        made = forward(model, (collate([short], 1),))
        alone, labels = made.logits, made.labels
        padded = forward(model, (collate([short, long], 1),)).logits
        assert len(alone) == len(labels) == BLOCK + 1
        torch.testing.assert_close(padded[: len(alone)], alone, rtol=0, atol=1e-4)


class TestFigures:
    def test_perfect_scores_have_no_error(self, vocab, scored):
        _, labels = scored
        found = token_figures(functional.one_hot(labels, vocab.size).float(), labels, vocab)
        assert found == {'action_error': 0.0, 'action_accuracy': 1.0, 'code_accuracy': 1.0}

    def test_errors_are_in_action_units(self, vocab):
        labels = vocab.action_bin_base + torch.tensor([1, 100, 200])
        best = vocab.action_bin_base + torch.tensor([256, 101, 200])
        found = token_figures(functional.one_hot(best, vocab.size).float(), labels, vocab)
        assert found['action_error'] == pytest.approx((2 + 2 / 255) / 3)
        assert found['action_accuracy'] == pytest.approx(2 / 3)

    def test_a_miss_by_two_bins_is_no_hit(self, vocab):
        labels = vocab.action_bin_base + torch.tensor([100, 100])
        best = vocab.action_bin_base + torch.tensor([102, 101])
        found = token_figures(functional.one_hot(best, vocab.size).float(), labels, vocab)
        assert found['action_accuracy'] == 0.5

    def test_the_ids_beside_a_span_do_not_count(self, vocab):
        bins, codes = vocab.action_bins, vocab.codes
        inside = torch.tensor([bins.start, bins.stop - 1, codes.start, codes.stop - 1])
        beside = torch.tensor([bins.start - 1, bins.stop, codes.start - 1, codes.stop])
        beside = beside[[not_in(i, bins) and not_in(i, codes) for i in beside.tolist()]]
        labels = torch.cat([inside, beside])
        best = labels.clone()
        best[0], best[2] = bins.start + 10, codes.start + 1  # one miss of each kind
        found = token_figures(functional.one_hot(best, vocab.size).float(), labels, vocab)
        assert found['action_error'] == pytest.approx(10 / 2 * 2 / 255)
        assert (found['action_accuracy'], found['code_accuracy']) == (0.5, 0.5)


class Twice(Term):
    """The value 2, whatever the outputs."""

    name = 'twice'

    def forward(self, outputs):
        return torch.tensor(2.0)


class TestObjective:
    @pytest.mark.parametrize(('weights', 'total'), [((), 2.0), ((1.0,), 2.0), ((0.25,), 0.5)])
    def test_a_term_counts_by_its_weight_which_is_one(self, weights, total):
        losses = Objective([Twice(*weights)])(None)
        assert losses.figures() == {'loss': total, 'loss_twice': 2.0}

    def test_a_term_without_weight_is_left_out(self):
        assert 'twice' not in Objective([Twice(0.0), ZLoss()])


@pytest.fixture(scope='module')
def started(tiny_spec):
    """A model wider than the shared one, whose second half of codes repeats the first."""
    half = torch.randn(16, 8, generator=torch.Generator().manual_seed(2))
    torch.manual_seed(0)
    model = Transformer(replace(tiny_spec.transformer, hidden_size=128))
    model.initialise()
    start_tables(model, tiny_spec.vocabulary, torch.cat([half, half]))
    return model


class TestStart:
    def rows(self, started, table, first, count):
        weight = {'embedding': started.model.embed_tokens, 'head': started.lm_head}[table].weight
        return functional.normalize(weight.detach()[first : first + count], dim=-1)

    @pytest.mark.parametrize('table', ['embedding', 'head'])
    @pytest.mark.parametrize('kind', ['action_bin_base', 'state_bin_base'])
    def test_neighbouring_bins_are_more_alike_than_distant_ones(self, started, vocab, table, kind):
        rows = self.rows(started, table, getattr(vocab, kind) + 1, BINS)
        near, middle, far = ((rows[:-k] * rows[k:]).sum(-1).mean() for k in (1, 16, 128))
        assert near > 0.7
        assert near > middle + 0.1
        assert near > far + 0.3

    @pytest.mark.parametrize('table', ['embedding', 'head'])
    def test_equal_codes_are_more_alike_than_others(self, started, vocab, table):
        rows = self.rows(started, table, vocab.code_base, 32)
        likeness = rows[:16] @ rows[16:].T
        assert likeness.diagonal().min() > 0.75
        assert likeness.diagonal().min() > (likeness - torch.eye(16)).max()

    def test_other_rows_and_the_spread_stay_as_drawn(self, started, vocab, tiny_spec):
        torch.manual_seed(0)
        drawn = Transformer(started.config)
        drawn.initialise()
        before, after = (m.model.embed_tokens.weight.detach() for m in (drawn, started))
        assert torch.equal(before[vocab.text_base :], after[vocab.text_base :])
        assert torch.equal(before[: vocab.action_bin_base + 1], after[: vocab.action_bin_base + 1])
        assert after.std() == pytest.approx(before.std().item(), rel=0.05)

    def test_heads_of_the_first_layers_start_with_different_distances(self, tiny_spec):
        sizes = replace(
            tiny_spec.transformer, qk_norm_heads=tiny_spec.transformer.num_attention_heads
        )
        model = Transformer(sizes)
        start_distances(model)
        first, last = model.model.layers[0].self_attn, model.model.layers[-1].self_attn
        for norm in (first.q_norm, first.k_norm):
            assert torch.pdist(norm.bias.detach()).min() > 0.5
        assert not last.q_norm.bias.any()

    def test_waves_tell_all_places_apart(self):
        rows = waves(BINS)
        distances = torch.cdist(rows, rows) + 10 * torch.eye(BINS)
        assert distances.min() > 1e-3


class TestSchedule:
    def test_the_rate_rises_stays_and_falls(self):
        factors = [trapezoid(step, 100, 10, 0.3) for step in range(101)]
        assert factors[0] == pytest.approx(0.1)
        assert factors[9:71] == [1.0] * 62
        assert factors[85] == pytest.approx(0.5)
        assert factors[100] == 0.0
        assert (np.diff(factors[:10]) > 0).all()
        assert (np.diff(factors[70:]) < 0).all()

    def test_it_may_have_neither_rise_nor_fall(self):
        assert [trapezoid(step, 10, 0, 0.0) for step in range(10)] == [1.0] * 10


class TestRun:
    def test_a_state_comes_back_and_can_be_forgotten(self, tmp_path):
        run = Run(tmp_path / 'new', 'model')
        assert run.load() is None
        run.save({'step': 3, 'weights': torch.ones(2)})
        run.log(step=3, loss=0.5)
        state = Run(tmp_path / 'new', 'model').load()
        assert state['step'] == 3
        assert torch.equal(state['weights'], torch.ones(2))
        run.clear()
        assert run.load() is None
        assert list((tmp_path / 'new').iterdir()) == []

    def test_stages_do_not_share_their_state(self, tmp_path):
        Run(tmp_path, 'one').save({'step': 1})
        assert Run(tmp_path, 'other').load() is None


class TestSettings:
    @pytest.fixture
    def changed(self, tmp_path):
        """Write the demo's settings with fields of one group replaced."""

        def write(group, **fields):
            from worldvla_ros.package_files import share_folder

            content = yaml.safe_load((share_folder() / 'config/train/demo.yaml').read_text())
            (content[group] if group else content).update(fields)
            file = tmp_path / 'train.yaml'
            file.write_text(yaml.safe_dump(content))
            return file

        return write

    def test_the_demos_settings_are_read(self, changed):
        settings = read_settings(changed('training', steps=7))
        assert settings.training.steps == 7
        assert settings.training.z_loss == ModelTraining().z_loss
        assert settings.cameras == ('front',)

    def test_an_unknown_key_names_its_neighbour(self, changed):
        with pytest.raises(ConfigError, match=r"training: unknown key 'stepps'.*mean steps"):
            read_settings(changed('training', stepps=7))

    @pytest.mark.parametrize('field', ['action_share', 'decay_share'])
    @pytest.mark.parametrize('value', [-0.1, 1.1])
    def test_a_share_out_of_range_is_refused(self, changed, field, value):
        with pytest.raises(ConfigError, match=rf'values in \[0, 1\], got .*{field} {value}'):
            read_settings(changed('training', **{field: value}))

    def test_a_wrong_type_names_the_field(self, changed):
        with pytest.raises(ConfigError, match="training.batch: expected int, got '8'"):
            read_settings(changed('training', batch='8'))

    def test_a_missing_file_is_refused(self, tmp_path):
        with pytest.raises(ConfigError, match='no configuration file'):
            read_settings(tmp_path / 'train.yaml')


def targets_in_view(count):
    """Return random places, and where a camera would see them: float32[count, 5]."""
    places = torch.rand(count, 3) * 0.4 + torch.tensor([0.3, -0.2, 0.0])
    return torch.cat([places, torch.rand(count, 2)], 1)


class TestLandmarks:
    def test_a_patch_shows_the_object_whose_centre_lies_in_it(self):
        places = torch.tensor([[[0.1, 0.1], [0.9, 0.3]], [[0.5, 0.75], [float('nan')] * 2]])
        shown, offsets = patch_targets(places, torch.Size((2, 4)))
        assert shown.nonzero().tolist() == [[0, 0, 0, 0], [0, 1, 0, 3], [1, 0, 1, 2]]
        expected = [[-0.1, -0.3], [0.1, 0.1], [-0.5, 0.0]]
        torch.testing.assert_close(offsets[shown], torch.tensor(expected))

    def test_an_object_out_of_view_is_in_no_patch(self):
        places = torch.tensor([[[1.2, 0.5], [0.5, -0.1]]])
        assert not patch_targets(places, torch.Size((2, 2)))[0].any()

    def test_the_heads_learn_what_latents_tell(self):
        torch.manual_seed(0)
        places = torch.rand(32, 2, 2)
        shown, offsets = patch_targets(places, torch.Size((2, 2)))
        latents = torch.cat(
            [shown.float(), (offsets * shown[..., None]).movedim(-1, 2).flatten(1, 2)], 1
        )
        landmarks = Landmarks(6, 2)
        optimiser = torch.optim.Adam(landmarks.parameters(), 0.1)
        before = landmarks.loss(latents, places).item()
        for _ in range(200):
            optimiser.zero_grad()
            landmarks.loss(latents, places).backward()
            optimiser.step()
        assert landmarks.loss(latents, places).item() < 0.05 * before


class TestGrounding:
    def test_the_heads_learn_where_things_are(self):
        torch.manual_seed(0)
        grounding, targets = Grounding(8, (2, 3)), targets_in_view(64)
        summaries = torch.cat([targets, torch.randn(64, 3)], 1)
        patches = torch.randn(64, 6, 8)
        cells, _ = grounding.cells(targets)
        patches[torch.arange(64), cells, -1] += 9
        optimiser = torch.optim.Adam(grounding.parameters(), 0.1)
        before = grounding.figures(summaries, patches, targets)
        for _ in range(300):
            optimiser.zero_grad()
            grounding.loss(summaries, patches, targets).backward()
            optimiser.step()
        after = grounding.figures(summaries, patches, targets)
        assert before['grounding_error_m'] > 0.1
        assert after['grounding_error_m'] < 0.01
        assert before['pointer_accuracy'] < 0.5
        assert after['pointer_accuracy'] > 0.95

    def test_a_target_belongs_to_the_code_that_shows_it(self):
        image_places = torch.tensor([[0.0, 0.0], [0.99, 0.0], [0.4, 0.6], [0.5, 1.2], [-0.1, 0.5]])
        cells, seen = Grounding(8, (2, 3)).cells(torch.cat([torch.zeros(5, 3), image_places], 1))
        assert cells[:3].tolist() == [0, 2, 4]
        assert seen.tolist() == [True, True, True, False, False]

    def test_unknown_places_do_not_count(self):
        grounding, summaries, patches = (
            Grounding(8, (2, 2)),
            torch.randn(6, 8),
            torch.randn(6, 4, 8),
        )
        for parameter in grounding.parameters():
            torch.nn.init.normal_(parameter)
        targets = targets_in_view(4)
        partly = torch.cat([targets, torch.full((2, 5), float('nan'))])
        alone = grounding.loss(summaries[:4], patches[:4], targets)
        torch.testing.assert_close(grounding.loss(summaries, patches, partly), alone)
        assert grounding.loss(summaries[4:], patches[4:], partly[4:]) == 0

    def test_a_target_out_of_view_teaches_its_place_alone(self):
        grounding, summaries, patches = (
            Grounding(8, (2, 2)),
            torch.randn(2, 8),
            torch.randn(2, 4, 8),
        )
        targets = targets_in_view(2)
        targets[:, 3] = 1.5
        grounding.loss(summaries, patches, targets).backward()
        assert grounding.place.weight.grad.abs().max() > 0
        assert grounding.pointer.weight.grad is None

    def test_patches_are_the_states_of_the_first_image(self, tiny_checkpoint, mixture):
        vocab = mixture.sequences.vocab
        for batch in mixture.batches(4, np.random.default_rng(0)):
            states = batch.ids[..., None].float()
            codes = first_patches(batch, states, vocab, GRID * GRID)[..., 0] - vocab.code_base
            assert codes.shape == (len(batch.ids), GRID * GRID)
            shown = [e.codes[:, 0].reshape(-1, GRID * GRID) for e in mixture.episodes]
            for row in codes.numpy():
                assert any((row == image).all() for images in shown for image in images)

    def test_the_summary_is_the_state_of_the_last_prompt_token(self, tiny_checkpoint, mixture):
        model = tiny_checkpoint.model
        batches = mixture.batches(4, np.random.default_rng(0))
        batch = batches[0]
        mask = sequence_mask(batch.positions, batch.roles)
        states = model(batch.ids, batch.positions, mask)
        at_sep = batch.ids[0, : batch.prompt_lengths[0]][-1]
        assert at_sep == mixture.sequences.vocab.sep
        found = prompt_ends(batch, states)[0]
        torch.testing.assert_close(found, states[0, batch.prompt_lengths[0] - 1])
