"""Where stitches and heads start by least squares."""

import torch

from zoo_search.networks import BlockRef, Recipe, assemble

MIXED = Recipe(
    (BlockRef("cnn", 0, 4), BlockRef("vit", 1, 3), BlockRef("swin", 2, 5), BlockRef("mlp", 8, 10))
)


def test_least_squares_brings_features_near_what_the_next_block_is_used_to(zoo, images):
    recipe = Recipe((BlockRef("cnn", 0, 3), BlockRef("swin", 1, 8)))
    fitted = assemble(recipe, zoo, images=images[:48], num_classes=2)
    chance = assemble(recipe, zoo, init="random", num_classes=2)
    x = fitted.transform.normalize(images[48:])
    with torch.no_grad():
        wanted = zoo["swin"].graph.nodes[0](x)
        errors = [
            float(((net.stitches[0](net.blocks[0](x)) - wanted) ** 2).mean())
            for net in (fitted, chance)
        ]
    spread = float(((wanted - wanted.mean((0, 1, 2))) ** 2).mean())
    assert errors[0] < 0.8 * spread < errors[1]


def test_labels_fit_the_head(zoo, images):
    labels = torch.arange(len(images)) % 2
    images = images // 2 + (labels * 127).to(torch.uint8)[:, None, None, None]
    recipe = Recipe((BlockRef("cnn", 0, 6), BlockRef("mlp", 6, 12)))
    net = assemble(recipe, zoo, images=images, labels=labels)
    with torch.no_grad():
        right = (net(net.transform.normalize(images)).argmax(1) == labels).float().mean()
    assert net.head.out_features == 2
    assert right > 0.9


def test_uint8_images_are_normalised_for_each_model_floats_are_not(zoo, images):
    recipe = Recipe((BlockRef("cnn", 0, 3), BlockRef("swin", 1, 8)), "source")
    normal = zoo["cnn"].transform.normalize(images)
    raw, given = assemble(recipe, zoo, images=images), assemble(recipe, zoo, images=normal)
    weights = [net.stitches[0].map.weight for net in (raw, given)]
    assert torch.equal(*weights)  # all models of this zoo normalise alike


def test_class_weights_count_in_the_fit_of_the_head(zoo, images):
    """One class has few images: of equal weight, more of them get their label."""
    labels = (torch.arange(len(images)) % 8 == 0).long()
    recipe = Recipe((BlockRef("cnn", 0, 6), BlockRef("mlp", 6, 12)))
    counts = torch.bincount(labels).double()
    balanced = len(labels) / 2 / counts
    heads, rare = [], []
    for weights in (None, torch.ones(2).double(), balanced):
        net = assemble(recipe, zoo, images=images, labels=labels, class_weights=weights)
        with torch.no_grad():
            said = net(net.transform.normalize(images)).argmax(1)
        heads.append(net.head.weight)
        rare.append(int((said[labels == 1] == 1).sum()))
    assert torch.allclose(heads[0], heads[1], rtol=1e-4)
    assert not torch.allclose(heads[0], heads[2], rtol=1e-2)
    assert rare[0] < rare[2]
