"""What the report's words rest on: papers by topic, of which those are listed that the runs used."""

from scenelab.report.blocks import Section
from scenelab.report.collect import Collected

ALWAYS = (
    "B. Zhou, A. Lapedriza, A. Khosla, A. Oliva, A. Torralba. Places: A 10 million image database for scene "
    "recognition. IEEE TPAMI, 2018.",
)
BY_TOPIC: dict[str, str] = {
    "residual": "K. He, X. Zhang, S. Ren, J. Sun. Deep residual learning for image recognition. CVPR, 2016.",
    "norm": "S. Ioffe, C. Szegedy. Batch normalization: Accelerating deep network training. ICML, 2015.",
    "inception": "C. Szegedy et al. Rethinking the Inception architecture for computer vision. CVPR, 2016.",
    "vit": "A. Dosovitskiy et al. An image is worth 16×16 words. ICLR, 2021.",
    "smoothing": "C. Szegedy et al. Rethinking the Inception architecture for computer vision. CVPR, 2016.",
    "muon": "K. Jordan et al. Muon: An optimizer for hidden layers in neural networks. 2024.",
    "adamw": "I. Loshchilov, F. Hutter. Decoupled weight decay regularization. ICLR, 2019.",
    "cosine": "I. Loshchilov, F. Hutter. SGDR: Stochastic gradient descent with warm restarts. ICLR, 2017.",
    "sizes": "H. Touvron, A. Vedaldi, M. Douze, H. Jégou. Fixing the train-test resolution discrepancy. NeurIPS, 2019.",
    "mixup": "H. Zhang, M. Cisse, Y. Dauphin, D. Lopez-Paz. mixup: Beyond empirical risk minimization. ICLR, 2018.",
    "cutmix": "S. Yun et al. CutMix: Regularization strategy to train strong classifiers. ICCV, 2019.",
    "calibration": "C. Guo, G. Pleiss, Y. Sun, K. Weinberger. On calibration of modern neural networks. ICML, 2017.",
    "gradient": "K. Simonyan, A. Vedaldi, A. Zisserman. Deep inside convolutional networks. ICLR workshop, 2014.",
    "smooth": "D. Smilkov et al. SmoothGrad: Removing noise by adding noise. 2017.",
    "integrated": "M. Sundararajan, A. Taly, Q. Yan. Axiomatic attribution for deep networks. ICML, 2017.",
    "cam": "R. Selvaraju et al. Grad-CAM: Visual explanations from deep networks. ICCV, 2017.",
    "sanity": "J. Adebayo et al. Sanity checks for saliency maps. NeurIPS, 2018.",
    "faithfulness": "V. Petsiuk, A. Das, K. Saenko. RISE: Randomized input sampling for explanation. BMVC, 2018.",
    "attacks": "A. Madry et al. Towards deep learning models resistant to adversarial attacks. ICLR, 2018.",
    "apgd": "F. Croce, M. Hein. Reliable evaluation of adversarial robustness with an ensemble of attacks. ICML, 2020.",
    "square": "M. Andriushchenko, F. Croce, N. Flammarion, M. Hein. Square Attack. ECCV, 2020.",
    "masking": "A. Athalye, N. Carlini, D. Wagner. Obfuscated gradients give a false sense of security. ICML, 2018.",
    "fast": "E. Wong, L. Rice, J. Kolter. Fast is better than free: Revisiting adversarial training. ICLR, 2020.",
    "free": "A. Shafahi et al. Adversarial training for free! NeurIPS, 2019.",
}


def references(found: Collected) -> Section:
    """The papers behind what these runs did, by author."""
    section = Section("references", "References")
    chosen = {*ALWAYS, *(BY_TOPIC[topic] for topic in _topics(found))}
    section.text("\n".join(f"- {entry}" for entry in sorted(chosen)))
    return section


def _topics(found: Collected) -> set[str]:
    topics: set[str] = set()
    for run in found.runs:
        config, results = run.config, run.results
        used = {
            "residual": config.model.startswith("residual"),
            "norm": config.model in ("residual", "residual-small", "residual-large", "inception"),
            "inception": config.model == "inception",
            "vit": config.model == "vit",
            "smoothing": config.label_smoothing > 0,
            "muon": config.optimizer.name == "muon",
            "adamw": config.optimizer.name in ("muon", "adamw"),
            "cosine": True,
            "sizes": config.eval_size != config.schedule.sizes[-1][1],
            "mixup": config.augment.mixup > 0,
            "cutmix": config.augment.cutmix > 0,
            "calibration": run.evaluation is not None,
            "attacks": config.adversarial is not None,
            "fast": config.adversarial is not None and config.adversarial.method == "fast",
            "free": config.adversarial is not None and config.adversarial.method == "free",
        }
        topics |= {topic for topic, is_used in used.items() if is_used}
        attribution = results.get("attribution", {})
        topics |= {*attribution.get("methods", ()), *attribution} & BY_TOPIC.keys()
        if "robustness" in results:
            topics |= {"attacks", "apgd", "square", "masking"}
    if "adversarial" in found.studies:
        topics |= {"attacks", "fast", "free", "apgd", "square"}
    return topics
