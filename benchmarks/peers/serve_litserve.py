"""The same classifier behind LitServe, with dynamic batches of the size and the wait that ours has."""

import os
import sys

import litserve as ls
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

MODEL, PORT = sys.argv[1], int(sys.argv[2])


class Classify(ls.LitAPI):
    def setup(self, device):
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 1)))
        self.tokenizer = AutoTokenizer.from_pretrained(MODEL)
        self.model = AutoModelForSequenceClassification.from_pretrained(MODEL).eval()

    def decode_request(self, request):
        return request["text"]

    def batch(self, inputs):
        return list(inputs)

    def predict(self, texts):
        asked = self.tokenizer(texts, padding=True, truncation=True, max_length=128, return_tensors="pt")
        with torch.inference_mode():
            scores = self.model(**asked).logits.softmax(-1)
        return scores.tolist()

    def unbatch(self, output):
        return output

    def encode_response(self, scores):
        return {"label": self.model.config.id2label[scores.index(max(scores))], "scores": scores}


if __name__ == "__main__":
    server = ls.LitServer(Classify(max_batch_size=64, batch_timeout=0.002), accelerator="cpu")
    server.run(host="127.0.0.1", port=PORT, log_level="error", generate_client_file=False)
